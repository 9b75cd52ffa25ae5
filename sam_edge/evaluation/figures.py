"""Measurements to figures: means over masks, because every mask is one question to the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float64

from .measure import Answers, PhotoMeasurement, joined

# COCO's sizes in pixels (https://cocodataset.org/#detection-eval).
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 2**62)}
GOOD, VERY_GOOD = 0.75, 0.9
NOC_BOUNDS = (0.80, 0.85, 0.90)


@dataclass(frozen=True)
class Prompted:
    """Answers to one kind of prompt.

    Attributes:
        single: mIoU of output 0.
        choice: mIoU of the output of 1..3 that the model itself rates highest.
        oracle: mIoU of the best of outputs 1..3.
        good, very_good: shares of output 0 with an IoU above 0.75 and 0.9.
        by_size: mIoU of output 0 for small, medium and large masks; NaN-free: a size without masks is left out.
    """

    single: float
    choice: float
    oracle: float
    good: float
    very_good: float
    by_size: dict[str, float]


@dataclass(frozen=True)
class Figures:
    """What one data source showed.

    Attributes:
        data: its name.
        photos, masks: how many were measured.
        box: answers to boxes.
        clicks: answers after 1, 2, .. clicks.
        shown: mIoU of what is shown after 1, 2, .. clicks: the model's choice for a lone click, then output 0.
        noc: mean number of clicks until the shown answer's IoU reaches 0.80, 0.85, 0.90, by `noc@80` and so on; a mask
            that does not get there counts as all clicks.
        iou_correlation: Pearson's, predicted with true IoU, over all outputs of all prompts; None where one
            is constant.
        iou_error: mean absolute difference of the two.
        baselines: mIoU by name.
        standard_error: of the box mIoU, in mIoU.
        subject: what was measured.
    """

    data: str
    photos: int
    masks: int
    box: Prompted
    clicks: tuple[Prompted, ...]
    shown: tuple[float, ...]
    noc: dict[str, float]
    iou_correlation: float | None
    iou_error: float
    baselines: dict[str, float]
    standard_error: float
    skipped: tuple[str, ...] = field(default=())
    subject: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        from dataclasses import asdict  # noqa: PLC0415

        return asdict(self)


def figures_of(data: str, photos: Sequence[PhotoMeasurement], skipped: Sequence[str] = ()) -> Figures:
    """The figures of a source; `photos` holds at least one."""
    areas = np.concatenate([photo.areas for photo in photos])
    box = joined([photo.box for photo in photos])
    clicks = [joined(each) for each in zip(*(photo.clicks for photo in photos), strict=True)]
    shown = np.concatenate([photo.shown for photo in photos], axis=1)  # (K, M)
    everything = joined([box, *clicks])
    return Figures(
        data=data,
        photos=len(photos),
        masks=len(areas),
        box=_prompted(box, areas),
        clicks=tuple(_prompted(answers, areas) for answers in clicks),
        shown=tuple(float(value) for value in shown.mean(axis=1)),
        noc={f"noc@{round(100 * bound)}": clicks_needed(shown, bound) for bound in NOC_BOUNDS} if len(shown) else {},
        iou_correlation=correlation(everything.predicted.ravel(), everything.ious.ravel()),
        iou_error=float(np.abs(everything.predicted - everything.ious).mean()),
        baselines={
            name: float(np.concatenate([photo.baselines[name] for photo in photos]).mean())
            for name in photos[0].baselines
        },
        standard_error=float(box.single.std(ddof=1) / np.sqrt(len(areas))) if len(areas) > 1 else 0.0,
        skipped=tuple(skipped),
    )


def clicks_needed(shown: Float64, bound: float) -> float:
    """Mean number of clicks until `shown (K, M)` reaches the bound (NoC, arXiv 2102.06583); K where it never does."""
    reached = shown >= bound
    first = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, len(shown))
    return float(first.mean())


def correlation(a: Float64, b: Float64) -> float | None:
    """Pearson's correlation, or None where one of the two is constant."""
    if a.std() == 0.0 or b.std() == 0.0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _prompted(answers: Answers, areas: npt.NDArray[np.int64]) -> Prompted:
    single = answers.single
    return Prompted(
        single=float(single.mean()),
        choice=float(answers.choice.mean()),
        oracle=float(answers.oracle.mean()),
        good=float((single > GOOD).mean()),
        very_good=float((single > VERY_GOOD).mean()),
        by_size={
            name: float(single[chosen].mean())
            for name, (low, high) in SIZES.items()
            if (chosen := (areas >= low) & (areas < high)).any()
        },
    )
