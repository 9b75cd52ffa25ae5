"""Thresholds of words: the offset of each word's map at which its masks agree best with people's.

Gradient descent leaves maps of rare and small things below the threshold everywhere. So after it, each word gets the
offset with the highest mean IoU over its training photos. Words with few photos are pulled to the offset that is best
for all words. The offset becomes a number of the word's vector, which only the map's bias reads. Another is the logit
of the word's presence before a photo is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sam_edge.model.words import WordMaps
from sam_edge_runtime.arrays import Float64
from sam_edge_runtime.bundle.contract import MASK_STRIDE

from .encoded import embeddings_of
from .objective import WordLearner
from .start import Views

OFFSETS = np.linspace(-6.0, 6.0, 49)  # in logits
PRIOR = 30.0  # photos that the mean of all words counts as: on held-out photos of COCO 0.194, with 4 photos 0.186
OFFSET_COLUMNS = {"bias": 0, "presence_bias": 1}  # of a vector's last numbers: which of them a layer reads
HALF = 128  # of 255: a cell is inside a region


def offsets_of(learner: WordLearner, views: Views, names: Sequence[str]) -> Float64:
    """The best offset of each word, `(W)`.

    Args:
        learner: trained, in evaluation mode.
        views: of photos, best of ones that were not learned from: maps are surer of learned ones.
        names: the words, in the order of the vectors.
    """
    rows = {name: row for row, name in enumerate(names)}
    totals, counts = np.zeros((len(names), len(OFFSETS))), np.zeros(len(names))
    with torch.inference_mode():
        for view in views:
            known = [place for place, name in enumerate(view.names) if name in rows]
            if not known:
                continue
            chosen = [rows[view.names[place]] for place in known]
            vectors = learner.vectors[chosen]
            look = learner.maps.look(embeddings_of([view]))
            logits = learner.maps.maps(look, learner.maps.coarse(look.cells, vectors), vectors)[:, 0].numpy()
            h, w = (-(-size // MASK_STRIDE) for size in view.size)
            for place, row, map_ in zip(known, chosen, logits, strict=True):
                inside = view.regions[place, :h, :w] >= HALF
                if inside.any():
                    totals[row] += _ious(map_[:h, :w][inside], map_[:h, :w][~inside])
                    counts[row] += 1
    seen = counts > 0
    mean = (totals[seen] / counts[seen, None]).mean(axis=0) if seen.any() else np.zeros(len(OFFSETS))
    best: Float64 = OFFSETS[(totals + PRIOR * mean).argmax(axis=1)]
    return best


def _ious(inside: Float64, outside: Float64) -> Float64:
    """IoU at every offset, of logits inside and outside of a region."""
    hit, false = (len(each) - np.searchsorted(np.sort(each), -OFFSETS, side="right") for each in (inside, outside))
    ious: Float64 = hit / (len(inside) + false)
    return ious


def with_offsets(learner: WordLearner, offsets: Float64) -> tuple[WordMaps, Tensor]:
    """Layers and vectors `(W, D + 2)`, whose last numbers are the offsets of each word's map and of its presence."""
    old = learner.maps
    maps = WordMaps(old.channels, old.detail, old.vector + 2)
    state = dict(old.state_dict())
    for name, module in maps.named_children():
        if isinstance(module, nn.Linear) and module.in_features == maps.vector:
            last = torch.zeros(module.out_features, 2)
            if name in OFFSET_COLUMNS:
                last[0, OFFSET_COLUMNS[name]] = 1.0
            state[f"{name}.weight"] = torch.cat([state[f"{name}.weight"], last], dim=1)
    maps.load_state_dict(state)
    both = torch.stack([torch.from_numpy(offsets).float(), learner.priors.detach()], dim=1)
    return maps.eval(), torch.cat([learner.vectors.detach(), both], dim=1)
