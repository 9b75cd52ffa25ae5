"""A start by least squares: maps that are linear in the embedding, without a step of gradient descent.

For each word, ridge regression on the cells of the photos that have it: 1 inside its region, -1 outside, both sides
with a weight of their own, and each photo with the square root of its region's area. The covariance is shrunk towards
that of all cells, the more the fewer cells a word has. The regressions' directions (a truncated SVD) become channels of
the first layer, each as a pair of opposite signs, since a ReLU follows. Gradient descent starts there, with the layers
between silenced. It takes one pass over the photos; a random start needs thousands of steps to get as far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from sam_edge.model.words import WIDTH
from sam_edge_runtime.arrays import Float32

from .encoded import EncodedView
from .objective import POSITIVE_WEIGHT, WordLearner

INSIDE = 0.35  # weight of the region against the rest of the photo
SHRINKAGE = 0.3
STEEPNESS = 4.0  # from -1..1 to logits
RIDGE = 1e-3
SAMPLED = 12  # every so many views are read for means and deviations


class Views(Protocol):
    """Views that are read when they are needed."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[EncodedView]: ...
    def __getitem__(self, index: int) -> EncodedView: ...


def start_by_least_squares(learner: WordLearner, views: Views, names: Sequence[str], noise: float = 0.0) -> None:
    """Set the weights of a learner.

    Args:
        learner: its first layer, filters and vectors are set; the layers between are silenced.
        views: of the photos; read twice, so a sequence that reads lazily is enough.
        names: the words, in the order of the vectors.
        noise: on each channel that the regressions expect, as a share of its deviation.
    """
    mean, deviation = _moments(views[index] for index in range(0, len(views), SAMPLED))
    weights = _regressions(views, names, mean, deviation, RIDGE + noise**2)  # (W, C + 1)
    rank = min(WIDTH // 2, learner.maps.vector - 1, len(names), len(mean))
    u, s, v = torch.linalg.svd(weights[:, :-1], full_matrices=False)
    directions, vectors = v[:rank] / deviation, u[:, :rank] * s[:rank]  # (R, C), (W, R)
    maps, half = learner.maps, WIDTH // 2
    with torch.no_grad():
        for layer in (maps.context, *maps.pointwise):
            for parameter in layer.parameters():
                parameter.zero_()
        for place, sign in ((0, 1.0), (half, -1.0)):
            rows = slice(place, place + rank)
            maps.reduce.weight[rows] = sign * directions[:, :, None, None]
            maps.reduce.get_parameter("bias")[rows] = -sign * (directions @ mean)
        maps.cell_filter.weight.zero_()
        maps.cell_filter.bias.zero_()
        for index in range(rank):
            maps.cell_filter.weight[index, index] = STEEPNESS * WIDTH**0.5
            maps.cell_filter.weight[half + index, index] = -STEEPNESS * WIDTH**0.5
        maps.bias.weight.zero_()
        maps.bias.bias.zero_()
        maps.bias.weight[0, rank] = STEEPNESS
        learner.vectors[:, :rank] = vectors
        learner.vectors[:, rank] = weights[:, -1]
        # Vectors are of the regressions' size, a tenth of a random start's: filters that are not set grow by it.
        scale = 1.0 / max(float(vectors.std()), 1e-3)
        learner.vectors[:, rank + 1 :] /= scale
        for filter_ in (maps.fine_filter, maps.presence_filter, maps.presence_bias):
            filter_.weight *= 0.3 * scale


def start_priors(
    learner: WordLearner, views: Views, names: Sequence[str], labelled: Float32, source_of: Sequence[int]
) -> None:
    """Set the presence of each word, before a photo is looked at, to the log-odds of its frequency.

    They are those at which the loss, to which a present word counts more than an absent one, is least.

    Args:
        learner: its `priors` are set.
        views: of the photos.
        names: the words, in the order of the vectors.
        labelled: `(sources, W)` 1 where a source labels a word; the other sources do not count.
        source_of: index of the source of each view.
    """
    rows = {name: row for row, name in enumerate(names)}
    found, seen = torch.zeros(len(names)), torch.zeros(len(names))
    for view, source in zip(views, source_of, strict=True):
        seen += torch.from_numpy(labelled[source])
        found[[rows[name] for name in view.names]] += 1.0
    with torch.no_grad():
        learner.priors.copy_(torch.logit((found + 0.5) / (seen + 1.0)) + math.log(POSITIVE_WEIGHT))


def _cells(view: EncodedView) -> tuple[Tensor, Tensor]:
    """The cells that show photo `(L, C)`, and how much of each a name's region covers `(K, L)`, 0..1."""
    embedding = torch.from_numpy(view.embedding).float()
    h, w = embedding.shape[1:]
    factor = view.regions.shape[1] // h
    rows, columns = (-(-size // 16) for size in view.size)
    regions = torch.from_numpy(view.regions).float().reshape(-1, h, factor, w, factor).mean(dim=(2, 4)) / 255.0
    return embedding[:, :rows, :columns].flatten(1).T, regions[:, :rows, :columns].flatten(1)


def _moments(views: Iterable[EncodedView]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation `(C)` of the cells."""
    cells = torch.cat([_cells(view)[0] for view in views])
    return cells.mean(dim=0), cells.std(dim=0) + 1e-2


def _regressions(views: Views, names: Sequence[str], mean: Tensor, deviation: Tensor, ridge: float) -> Tensor:
    """Weights of each word for standardized cells, the bias last: `(W, C + 1)`."""
    rows = {name: row for row, name in enumerate(names)}
    size = len(mean) + 1
    inside, outside = (torch.zeros(len(names), size, size) for _ in range(2))
    toward, away = (torch.zeros(len(names), size) for _ in range(2))
    weight = torch.zeros(len(names))
    everything, count = torch.zeros(size, size), 0
    for view in views:
        cells, regions = _cells(view)
        x = torch.cat([(cells - mean) / deviation, torch.ones(len(cells), 1)], dim=1)
        products, sums = x.T @ x, x.sum(dim=0)
        everything, count = everything + products, count + len(x)
        for name, region in zip(view.names, regions, strict=True):
            area = region.sum()
            row = rows.get(name)
            if row is None or area < RIDGE:
                continue
            covered = region > 0
            part, cover = x[covered], region[covered][:, None]
            own, own_sums, photo = (part * cover).T @ part, (part * cover).sum(dim=0), area.sqrt()
            rest = len(x) - area + RIDGE
            inside[row] += own * photo / area
            toward[row] += own_sums * photo / area
            outside[row] += (products - own) * photo / rest
            away[row] += (sums - own_sums) * photo / rest
            weight[row] += photo
    everything /= max(count, 1)
    result = torch.zeros(len(names), size)
    for row in torch.nonzero(weight)[:, 0].tolist():
        both = (INSIDE * inside[row] + (1.0 - INSIDE) * outside[row]) / weight[row]
        aim = (INSIDE * toward[row] - (1.0 - INSIDE) * away[row]) / weight[row]
        shrink = min(1.0, SHRINKAGE / float(weight[row]) ** 0.5)
        shrunk = (1.0 - shrink) * both + shrink * everything + ridge * torch.eye(size)
        result[row] = torch.linalg.solve(shrunk, aim)
    return result
