"""Automatic masks against human masks, and against those of another engine.

Proposals are sorted by predicted IoU. Average recall at k is that of class-agnostic proposals (arXiv 1502.05082): the
share of human masks whose best proposal among a photo's first k has an IoU of t or more, averaged over t from 0.5 to
0.95. "Segment Anything" (section 5) states the quality of masks as the share of human masks whose best proposal has an
IoU above 0.75 and 0.90. Two engines are compared by the best IoU of each mask of one with the masks of the other,
averaged over the masks of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from sam_edge.data.sample import Sample
from sam_edge_runtime.arrays import Float64
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.rle import Rle

from .figures import GOOD, VERY_GOOD

RANKS = (10, 100, 1000)
THRESHOLDS = np.arange(0.5, 0.96, 0.05)


@dataclass(frozen=True, eq=False)
class Proposals:
    """The automatic masks of one photo.

    Attributes:
        rles: P masks, the highest predicted IoU first.
        ious: `(M, P)`, with the M human masks.
        seconds: time of the generator.
    """

    rles: tuple[Rle, ...]
    ious: Float64
    seconds: float


@dataclass(frozen=True)
class AutomaticFigures:
    """The figures of one data source.

    Attributes:
        subject: name of the model or bundle.
        data: the source's name.
        photos, masks: how many were measured.
        proposals: mean number of automatic masks of a photo.
        recall: average recall at 10, 100 and 1000, as `ar@10` and so on.
        good, very_good: shares of human masks whose best proposal has an IoU above 0.75 and 0.9.
        agreement: mean IoU with the masks of the first subject; None for itself.
        seconds: mean time for a photo, on a machine that may have been busy.
        skipped: records that could not be used.
    """

    subject: str
    data: str
    photos: int
    masks: int
    proposals: float
    recall: dict[str, float]
    good: float
    very_good: float
    agreement: float | None
    seconds: float
    skipped: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def propose(generator: AutomaticMaskGenerator, sample: Sample) -> Proposals:
    """Generate the masks of a photo, and compare them with its human masks."""
    begun = perf_counter()
    records = generator.generate(sample.photo)
    seconds = perf_counter() - begun
    records.sort(key=lambda record: -record["predicted_iou"])
    rles: tuple[Rle, ...] = tuple(record["segmentation"] for record in records)
    return Proposals(rles, _ious(sample.rles, rles), seconds)


def automatic_figures(
    subject: str,
    data: str,
    photos: Sequence[Proposals],
    reference: Sequence[Proposals] | None,
    skipped: Sequence[str] = (),
) -> AutomaticFigures:
    """The figures of a source.

    Args:
        subject: name of the model or bundle.
        data: name of the source.
        photos: proposals of at least one photo.
        reference: the first subject's proposals of the same photos; None for the first subject itself.
        skipped: records that could not be used.
    """
    everything = _best(photos, None)
    pairs = zip(reference, photos, strict=True) if reference is not None else ()
    agreements = [_agreement(a.rles, b.rles) for a, b in pairs]
    return AutomaticFigures(
        subject=subject,
        data=data,
        photos=len(photos),
        masks=len(everything),
        proposals=float(np.mean([len(photo.rles) for photo in photos])),
        recall={f"ar@{k}": average_recall(_best(photos, k)) for k in RANKS},
        good=float((everything > GOOD).mean()),
        very_good=float((everything > VERY_GOOD).mean()),
        agreement=float(np.concatenate(agreements).mean()) if agreements and any(map(len, agreements)) else None,
        seconds=float(np.mean([photo.seconds for photo in photos])),
        skipped=tuple(skipped),
    )


def average_recall(best: Float64) -> float:
    """Mean over thresholds of the share of the IoUs `best` `(M)` that reach the threshold."""
    return float(np.mean([(best >= threshold - 1e-9).mean() for threshold in THRESHOLDS]))


def automatic_rows(figures: Sequence[AutomaticFigures]) -> list[tuple[str, list[str]]]:
    """The rows of the table: a name, and a cell for each of `figures`."""

    def row(name: str, value: Callable[[AutomaticFigures], str]) -> tuple[str, list[str]]:
        return name, [value(each) for each in figures]

    return [
        row("photos / masks", lambda f: f"{f.photos} / {f.masks}"),
        row("automatic masks of a photo", lambda f: f"{f.proposals:.1f}"),
        *(row(f"average recall at {k}", lambda f, n=f"ar@{k}": f"{f.recall[n]:.3f}") for k in RANKS),  # type: ignore[misc]
        row("human masks with an IoU above 0.75 / 0.90", lambda f: f"{f.good:.0%} / {f.very_good:.0%}"),
        row("IoU with the first column's masks", lambda f: "" if f.agreement is None else f"{f.agreement:.3f}"),
        row("seconds a photo", lambda f: f"{f.seconds:.1f}"),
    ]


def _best(photos: Sequence[Proposals], most: int | None) -> Float64:
    """The best IoU of each human mask with the first `most` proposals of its photo; 0 if there are none."""
    return np.concatenate([photo.ious[:, :most].max(axis=1, initial=0.0) for photo in photos])


def _agreement(one: Sequence[Rle], other: Sequence[Rle]) -> Float64:
    """The best IoU of each mask of `one` with those of `other`, then of each of `other` with those of `one`."""
    if not one or not other:
        return np.zeros(len(one) + len(other))
    ious = _ious(one, other)
    return np.concatenate([ious.max(axis=1), ious.max(axis=0)])


def _ious(one: Sequence[Rle], other: Sequence[Rle]) -> Float64:
    from pycocotools import mask as coco  # noqa: PLC0415

    if not one or not other:
        return np.zeros((len(one), len(other)))
    ious = coco.iou([dict(rle) for rle in one], [dict(rle) for rle in other], [0] * len(other))
    return np.asarray(ious, np.float64)
