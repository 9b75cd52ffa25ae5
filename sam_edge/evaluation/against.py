"""1 to K points for two models on the same masks, and the difference between them.

"Segment Anything" (arXiv 2304.02643, section 7.1, figure 9) compares so with interactive segmenters. Both models get
the first point that the protocol says; each further one is in the middle of the largest error of its own mask. A
difference has a 95 % interval from a bootstrap over photos (`paired`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Float64

from .measure import PhotoMeasurement
from .paired import CONFIDENCE, least_photos, paired_loss

ORACLE = "1 point, best of three (oracle)"


@dataclass(frozen=True)
class Difference:
    """Mean IoUs of two models for one number of points.

    Attributes:
        name: such as `3 points`.
        one, other: their mIoU.
        low, high: 95 % interval of `one - other`; None where there are too few photos.
    """

    name: str
    one: float
    other: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class AgainstFigures:
    """The comparison on one data source.

    Attributes:
        subject, other: names of the two models.
        data: the source's name.
        photos, masks: how many were measured.
        differences: after 1, 2, .. points, and of the oracle after one.
        better, worse: shares of masks whose IoU after one point is higher or lower than the other model's by more than
            0.01.
    """

    subject: str
    other: str
    data: str
    photos: int
    masks: int
    differences: tuple[Difference, ...]
    better: float
    worse: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def against_figures(
    subject: str, other: str, data: str, photos: Sequence[PhotoMeasurement], others: Sequence[PhotoMeasurement]
) -> AgainstFigures:
    """Compare the measurements of two models on the same photos; at least one photo and one click."""

    def difference(name: str, scores: Callable[[PhotoMeasurement], Float64]) -> Difference:
        pair = paired_loss([scores(each) for each in photos], [scores(each) for each in others], CONFIDENCE)
        known = pair.photos >= least_photos(CONFIDENCE)
        return Difference(
            name, pair.reference, pair.candidate, pair.low if known else None, pair.high if known else None
        )

    rows = [
        difference(points_name(number + 1), lambda photo, n=number: photo.shown[n])  # type: ignore[misc]
        for number in range(len(photos[0].shown))
    ]
    gains = np.concatenate([a.shown[0] - b.shown[0] for a, b in zip(photos, others, strict=True)])
    return AgainstFigures(
        subject=subject,
        other=other,
        data=data,
        photos=len(photos),
        masks=len(gains),
        differences=(rows[0], difference(ORACLE, lambda photo: photo.clicks[0].oracle), *rows[1:]),
        better=float((gains > 0.01).mean()),
        worse=float((gains < -0.01).mean()),
    )


def points_name(count: int) -> str:
    """`1 point`, `2 points`, .."""
    return f"{count} point{'s' if count > 1 else ''}"


def against_table(figures: AgainstFigures) -> tuple[str, list[str], list[tuple[str, list[str]]]]:
    """A table: its title, the names of the columns, and the rows."""

    def cells(each: Difference) -> list[str]:
        interval = "" if each.low is None or each.high is None else f" [{each.low:+.3f}, {each.high:+.3f}]"
        return [f"{each.one:.3f}", f"{each.other:.3f}", f"{each.one - each.other:+.3f}{interval}"]

    rows = [(each.name, cells(each)) for each in figures.differences]
    rows.append(("masks better / worse after 1 point", [f"{figures.better:.0%} / {figures.worse:.0%}", "", ""]))
    rows.append(("photos / masks", [f"{figures.photos} / {figures.masks}", "", ""]))
    other = f"{figures.other} (other weights)" if figures.other == figures.subject else figures.other
    return f"points, {figures.data}", [figures.subject, other, "difference [95 %]"], rows
