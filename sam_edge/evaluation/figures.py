"""Measurements to figures: means over masks, because every mask is one prompt.

Standard errors are by photo. The masks of a photo share its light, its sharpness and often their kind, so they are not
independent, and an error computed from single masks is too small. A mean over masks is the ratio of two sums over
photos: IoUs and numbers of masks. Its error is that of a ratio estimate whose units are the photos (Cochran, "Sampling
Techniques", 3rd edition, sections 6.4 and 9A.1; the same as a cluster-robust error).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float64
from sam_edge_runtime.bundle.contract import SINGLE_OUTPUT

from .measure import OutputScores, PhotoMeasurement, concatenated

# COCO's sizes in pixels (https://cocodataset.org/#detection-eval).
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 2**62)}
GOOD, VERY_GOOD = 0.75, 0.9
FALL = 0.01  # a mask whose IoU falls by more after a further click has become worse
NOC_BOUNDS = (0.80, 0.85, 0.90)


@dataclass(frozen=True)
class PromptFigures:
    """The figures of one kind of prompt.

    Attributes:
        single: mIoU of output 0.
        choice: mIoU of that output of 1..3 with the highest predicted IoU.
        oracle: mIoU of the best of outputs 1..3.
        good, very_good: shares of output 0 with an IoU above 0.75 and 0.9.
        by_size: mIoU of output 0 for small, medium and large masks; a size without masks is left out.
        standard_error: of `single`, by photo.
        iou_correlation: Pearson's, of predicted and true IoU, over all outputs; None where one is constant.
        iou_error: mean absolute difference of the two.
        single_iou_error: the same of output 0 alone, which is shown after several clicks.
    """

    single: float
    choice: float
    oracle: float
    good: float
    very_good: float
    by_size: dict[str, float]
    standard_error: float
    iou_correlation: float | None
    iou_error: float
    single_iou_error: float


@dataclass(frozen=True)
class Figures:
    """The figures of one data source.

    Attributes:
        data: its name.
        photos, masks: how many were measured.
        box: figures of boxes.
        clicks: figures after 1, 2, .. clicks.
        shown: mIoU of the shown mask after 1, 2, .. clicks: the model's choice of 1..3 for one click, then output 0.
        shown_errors: standard errors of `shown`, by photo.
        fallen: for 2, 3, .. clicks, the share of masks whose IoU fell by more than `FALL` with the last click.
        noc: mean number of clicks until the shown mask's IoU reaches 0.80, 0.85, 0.90, as `noc@80` and so on; a mask
            that does not reach it counts with all clicks.
        iou_correlation: as in `PromptFigures`, over all prompts pooled. It is higher than within one kind of prompt,
            because it also counts that boxes and many clicks are better than one click.
        iou_error: likewise.
        baselines: mIoU of each baseline.
        ellipse_wins: share of masks for which the ellipse in the box is better than the box's output 0.
        ellipse_by_size: mIoU of the ellipse, as `PromptFigures.by_size`.
        skipped: records that could not be used.
        subject: name of the model or bundle.
    """

    data: str
    photos: int
    masks: int
    box: PromptFigures
    clicks: tuple[PromptFigures, ...]
    shown: tuple[float, ...]
    shown_errors: tuple[float, ...]
    fallen: tuple[float, ...]
    noc: dict[str, float]
    iou_correlation: float | None
    iou_error: float
    baselines: dict[str, float]
    ellipse_wins: float
    ellipse_by_size: dict[str, float]
    skipped: tuple[str, ...] = field(default=())
    subject: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        from dataclasses import asdict  # noqa: PLC0415

        return asdict(self)


def figures_of(data: str, photos: Sequence[PhotoMeasurement], skipped: Sequence[str] = ()) -> Figures:
    """The figures of a source; `photos` holds at least one."""
    areas = np.concatenate([photo.areas for photo in photos])
    owners = np.repeat(np.arange(len(photos)), [len(photo.areas) for photo in photos])  # the photo of each mask
    box = concatenated([photo.box for photo in photos])
    clicks = [concatenated(each) for each in zip(*(photo.clicks for photo in photos), strict=True)]
    shown = np.concatenate([photo.shown for photo in photos], axis=1)  # (K, M)
    everything = concatenated([box, *clicks])
    ellipse = np.concatenate([photo.baselines["ellipse"] for photo in photos])
    return Figures(
        data=data,
        photos=len(photos),
        masks=len(areas),
        box=_prompt_figures(box, areas, owners),
        clicks=tuple(_prompt_figures(scores, areas, owners) for scores in clicks),
        shown=tuple(float(value) for value in shown.mean(axis=1)),
        shown_errors=tuple(clustered_error(values, owners) for values in shown),
        fallen=tuple(float(share) for share in (shown[1:] < shown[:-1] - FALL).mean(axis=1)),
        noc={f"noc@{round(100 * bound)}": clicks_needed(shown, bound) for bound in NOC_BOUNDS} if len(shown) else {},
        iou_correlation=correlation(everything.predicted.ravel(), everything.ious.ravel()),
        iou_error=_iou_error(everything),
        baselines={
            name: float(np.concatenate([photo.baselines[name] for photo in photos]).mean())
            for name in photos[0].baselines
        },
        ellipse_wins=float((ellipse > box.single).mean()),
        ellipse_by_size=_by_size(ellipse, areas),
        skipped=tuple(skipped),
    )


def clicks_needed(shown: Float64, bound: float) -> float:
    """Mean number of clicks until the IoU `shown (K, M)` reaches the bound (NoC, arXiv 2102.06583); K if never."""
    reached = shown >= bound
    first = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, len(shown))
    return float(first.mean())


def correlation(a: Float64, b: Float64) -> float | None:
    """Pearson's correlation; None if one of the two is constant."""
    if a.std() == 0.0 or b.std() == 0.0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def clustered_error(values: Float64, owners: npt.NDArray[np.int64]) -> float:
    """The standard error of the mean of `values (M)`, whose independent units are photos.

    Args:
        values: one for each mask.
        owners: `(M)` number of each mask's photo, from 0.

    Returns:
        The error; 0 for a single photo, which says nothing about others.
    """
    photos = int(owners.max(initial=-1)) + 1
    if photos < 2:
        return 0.0
    residuals = np.bincount(owners, values - values.mean(), minlength=photos)
    return float(np.sqrt(photos / (photos - 1) * np.square(residuals).sum()) / len(values))


def _prompt_figures(scores: OutputScores, areas: npt.NDArray[np.int64], owners: npt.NDArray[np.int64]) -> PromptFigures:
    single = scores.single
    return PromptFigures(
        single=float(single.mean()),
        choice=float(scores.choice.mean()),
        oracle=float(scores.oracle.mean()),
        good=float((single > GOOD).mean()),
        very_good=float((single > VERY_GOOD).mean()),
        by_size=_by_size(single, areas),
        standard_error=clustered_error(single, owners),
        iou_correlation=correlation(scores.predicted.ravel(), scores.ious.ravel()),
        iou_error=_iou_error(scores),
        single_iou_error=float(np.abs(scores.predicted[:, SINGLE_OUTPUT] - single).mean()),
    )


def _by_size(values: Float64, areas: npt.NDArray[np.int64]) -> dict[str, float]:
    """The mean of the values `(M)` of small, medium and large masks; a size without masks is left out."""
    return {
        name: float(values[chosen].mean())
        for name, (low, high) in SIZES.items()
        if (chosen := (areas >= low) & (areas < high)).any()
    }


def _iou_error(scores: OutputScores) -> float:
    return float(np.abs(scores.predicted - scores.ious).mean())
