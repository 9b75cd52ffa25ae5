"""The losses of a words stage: each word's map where it is, and its presence everywhere.

Maps are trained on photos that have the word: dice and focal loss against the union of its masks. Absent words teach
presence alone, so a map answers "where, if it is here". Presence is binary cross-entropy over the words that the
photo's source labels at all: in a source without cats, a cat is not labelled, and says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model.words import Look, WordMaps
from sam_edge.training.losses import dice_loss, normalized_focal_loss
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.contract import MASK_STRIDE

from .encoded import EncodedView, embeddings_of
from .recipe import WordsRecipe

POSITIVE_WEIGHT = 3.0  # of a word that is there: most are not


class WordLearner(nn.Module):
    """The layers and the vectors that are trained.

    Attributes:
        maps: the layers.
        vectors: `(W, D)`, one for each word.
        priors: `(W)`, the presence logit of each word before a photo is looked at.
    """

    def __init__(self, maps: WordMaps, words: int, seed: int) -> None:
        super().__init__()
        self.maps = maps
        start = np.random.default_rng(seed).standard_normal((words, maps.vector))
        self.vectors = nn.Parameter(torch.from_numpy(start).float())
        self.priors = nn.Parameter(torch.zeros(words))


class WordsObjective:
    """The loss of a step.

    Args:
        learner: what is trained.
        names: the words, in the order of the vectors.
        labelled: `(sources, W)` 1 where a source labels a word.
        recipe: weights, and how many words count.
    """

    def __init__(self, learner: WordLearner, names: Sequence[str], labelled: Float32, recipe: WordsRecipe) -> None:
        self._learner, self._recipe = learner, recipe
        self._rows = {name: row for row, name in enumerate(names)}
        self._labelled = torch.from_numpy(labelled)

    def __call__(
        self, views: Sequence[EncodedView], sources: Sequence[int], draw: np.random.Generator, *, fine: bool = True
    ) -> dict[str, Tensor]:
        """The losses of some views: `loss`, and its parts `dice`, `focal` and `presence`.

        Args:
            views: of the step.
            sources: index of the source of each.
            draw: chooses words, dropped channels and noise.
            fine: whether maps have their part of stride 4, which costs most of a step.
        """
        recipe, maps, vectors = self._recipe, self._learner.maps, self._learner.vectors
        embeddings = self._dropped(self._noisy(embeddings_of(views), draw), draw)
        cells = maps.cells(embeddings)
        grid = (cells.shape[2], cells.shape[3])
        finer = maps.fine(embeddings, cells).flatten(2) if fine else [None] * len(views)
        looks = [Look(*each, grid) for each in zip(cells.flatten(2), finer, strict=True)]
        parts: dict[str, list[Tensor]] = {"dice": [], "focal": [], "presence": []}
        for index, view in enumerate(views):
            look = looks[index]
            coarse = maps.coarse(look.cells, vectors)
            parts["presence"].append(self._presence(look, coarse, view, self._labelled[sources[index]]))
            chosen = draw.permutation(len(view.names))[: recipe.words]
            if not len(chosen):
                continue
            rows = [self._rows[view.names[each]] for each in chosen]
            logits = maps.maps(look, coarse[rows], vectors[rows])
            target = torch.from_numpy(view.regions[chosen]).float() / 255.0
            valid = _valid(view, logits)
            parts["dice"].append(dice_loss(logits, target, valid))
            parts["focal"].append(normalized_focal_loss(logits, target, valid))
        means = {
            name: torch.cat([each.reshape(-1) for each in values]).mean() for name, values in parts.items() if values
        }
        nothing = cells.sum() * 0.0  # no photo of the step has a word
        loss = means.get("dice", nothing) + recipe.focal_weight * means.get("focal", nothing)
        return {"loss": loss + recipe.presence_weight * means["presence"], **means}

    def _presence(self, look: Look, coarse: Tensor, view: EncodedView, labelled: Tensor) -> Tensor:
        maps, vectors = self._learner.maps, self._learner.vectors
        logits = maps.presence(look.cells, coarse, vectors)[:, 0] + self._learner.priors
        target = torch.zeros(len(vectors))
        target[[self._rows[name] for name in view.names]] = 1.0
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        weights = labelled * (1.0 + (POSITIVE_WEIGHT - 1.0) * target)
        total: Tensor = (each * weights).sum() / labelled.sum().clamp(min=1.0)
        return total

    def _noisy(self, embeddings: Tensor, draw: np.random.Generator) -> Tensor:
        """Embeddings `(K, C, h, w)` with noise, in proportion to each channel's deviation over all of them."""
        if not self._recipe.noise:
            return embeddings
        noise = torch.from_numpy(draw.standard_normal(embeddings.shape, np.float32))
        return embeddings + self._recipe.noise * embeddings.std(dim=(0, 2, 3), keepdim=True) * noise

    def _dropped(self, embeddings: Tensor, draw: np.random.Generator) -> Tensor:
        """Embeddings with some channels of each zeroed, and the others scaled up."""
        if not self._recipe.drop:
            return embeddings
        kept = draw.random(embeddings.shape[:2]) >= self._recipe.drop
        scale = torch.from_numpy(kept.astype(np.float32) / (1.0 - self._recipe.drop))
        return embeddings * scale[:, :, None, None]


def _valid(view: EncodedView, logits: Tensor) -> Tensor:
    """`(1, H/4, W/4)` true where the frame shows photo."""
    rows, columns = (-(-size // MASK_STRIDE) for size in view.size)
    valid = torch.zeros(1, *logits.shape[2:], dtype=torch.bool)
    valid[:, :rows, :columns] = True
    return valid
