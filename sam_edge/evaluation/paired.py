"""The accuracy of a model, and what it loses against another, with a confidence interval.

Two models get the same prompts on the same photos, so their scores are compared prompt by prompt. Masks of one photo
resemble each other more than those of different photos. So the interval comes from a bootstrap that draws photos with
replacement, each with all of its prompts (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter
13: the percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam_edge_runtime.arrays import Float64
from sam_edge_runtime.errors import UsageError

RESAMPLES = 10_000
CONFIDENCE = 0.95
LEAST_PHOTOS = 5


@dataclass(frozen=True)
class PairedLoss:
    """Mean scores of a reference and of a candidate, and their difference.

    Attributes:
        reference: the reference's mean score over all prompts.
        candidate: the candidate's.
        loss: `reference - candidate`; negative where the candidate is better.
        low, high: ends of the loss's confidence interval.
        confidence: of the two-sided interval, between 0 and 1.
        photos, prompts: how many were compared.
    """

    reference: float
    candidate: float
    loss: float
    low: float
    high: float
    confidence: float
    photos: int
    prompts: int

    def photos_needed(self, allowed: float) -> int | None:
        """About how many photos shrink the interval until it ends at `allowed`; None: no number does.

        The interval's width falls with the root of the number of photos.
        """
        if self.loss >= allowed:
            return None
        return math.ceil(self.photos * ((self.high - self.loss) / (allowed - self.loss)) ** 2)


def least_photos(confidence: float) -> int:
    """The fewest photos that an interval of this confidence is computed from.

    With n photos a fair coin falls on the same side n times with probability 2^(1 - n), so fewer photos could agree by
    chance.
    """
    return max(LEAST_PHOTOS, 1 + math.ceil(math.log2(1.0 / (1.0 - confidence))))


@dataclass(frozen=True)
class MeanInterval:
    """A mean score, and its confidence interval.

    Attributes:
        mean: over all prompts.
        low, high: ends of the interval; None where there are fewer than `least_photos`.
        photos, prompts: how many there are.
    """

    mean: float
    low: float | None
    high: float | None
    photos: int
    prompts: int


def mean_interval(scores: Sequence[Float64], confidence: float = CONFIDENCE, seed: int = 0) -> MeanInterval:
    """The mean of a model's scores.

    Args:
        scores: for each photo the scores `(prompts,)` of its prompts, at least one.
        confidence: of the two-sided interval, between 0 and 1.
        seed: of the resampling.
    """
    photos, prompts = len(scores), sum(map(len, scores))
    mean = float(np.concatenate(list(scores)).mean())
    if photos < least_photos(confidence):
        return MeanInterval(mean, None, None, photos, prompts)
    low, high = _interval(scores, confidence, seed)
    return MeanInterval(mean, low, high, photos, prompts)


def paired_loss(
    reference: Sequence[Float64], candidate: Sequence[Float64], confidence: float, seed: int = 0
) -> PairedLoss:
    """Compare the scores of two models.

    Args:
        reference: for each photo the scores `(prompts,)` of its prompts, at least one.
        candidate: the same for the other model, in the same order.
        confidence: of the two-sided interval, between 0 and 1.
        seed: of the resampling.

    Raises:
        UsageError: the scores do not belong together.
    """
    if not reference or [len(each) for each in reference] != [len(each) for each in candidate]:
        raise UsageError("paired scores need the same photos with the same number of prompts, at least one each")
    lost = [a - b for a, b in zip(reference, candidate, strict=True)]
    low, high = _interval(lost, confidence, seed)
    before, after = (float(np.concatenate(list(scores)).mean()) for scores in (reference, candidate))
    return PairedLoss(
        reference=before,
        candidate=after,
        loss=float(np.concatenate(lost).mean()),
        low=low,
        high=high,
        confidence=confidence,
        photos=len(lost),
        prompts=sum(map(len, lost)),
    )


def _interval(scores: Sequence[Float64], confidence: float, seed: int) -> tuple[float, float]:
    """The percentile interval of the mean over all prompts, by a bootstrap over photos."""
    counts = np.array([len(each) for each in scores], np.float64)
    sums = np.array([float(each.sum()) for each in scores])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1.0 / len(counts)), size=RESAMPLES)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), (tail, 1.0 - tail))
    return float(low), float(high)
