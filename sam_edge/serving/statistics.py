"""What was annotated, in figures: seconds a mask, masks a photo, masks by size.

Masks are small below 32 x 32 pixels, large from 96 x 96 on, as COCO counts them and SAM's tables do (arXiv 2304.02643,
table 4). The relative size of a mask is the square root of its share of the photo (figure 6 there).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from math import sqrt
from statistics import fmean, median
from typing import Any

from .annotation_files import MaskFigures, PhotoFigures
from .annotation_record import PERSON, SOURCES

SMALL, LARGE = 32 * 32, 96 * 96
_BINS = 10
_NAMES = 100  # the most frequent


def statistics_of(figures: Collection[PhotoFigures], total: int, broken: int) -> dict[str, Any]:
    """The figures of a session.

    Args:
        figures: of all photos with a record.
        total: photos of the queue.
        broken: photos that were found to be unreadable.
    """
    masks = [mask for photo in figures for mask in photo.masks]
    drawn = [mask for mask in masks if mask.source == PERSON]
    done = [photo for photo in figures if photo.done]
    sources = Counter(mask.source for mask in masks)
    return {
        "photos": {
            "total": total,
            "done": len(done),
            "started": sum(not photo.done for photo in figures),
            "broken": broken,
        },
        "masks": {
            "total": len(masks),
            **{source: sources[source] for source in SOURCES},
            "named": sum(mask.name is not None for mask in masks),
        },
        "seconds_a_mask": _spread(mask.seconds for mask in drawn if mask.seconds is not None),
        "seconds_a_photo": _spread(photo.seconds for photo in done),
        "masks_a_photo": _spread(len(photo.masks) for photo in figures),
        "by_size": _by_size(masks),
        "relative_size": _relative_sizes(figures),
        "annotators": _annotators(drawn),
        "names": [{"name": name, "masks": count} for name, count in names_in_use(figures)],
    }


def names_in_use(figures: Iterable[PhotoFigures]) -> list[tuple[str, int]]:
    """Names of objects and how many masks have each, the most frequent first; at most a hundred."""
    counts = Counter(mask.name for photo in figures for mask in photo.masks if mask.name is not None)
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:_NAMES]


def _spread(values: Iterable[float]) -> dict[str, Any]:
    listed = list(values)
    return {
        "mean": round(fmean(listed), 3) if listed else None,
        "median": round(median(listed), 3) if listed else None,
        "count": len(listed),
    }


def _by_size(masks: Iterable[MaskFigures]) -> dict[str, int]:
    counts = Counter("small" if mask.area < SMALL else "medium" if mask.area < LARGE else "large" for mask in masks)
    return {size: counts[size] for size in ("small", "medium", "large")}


def _relative_sizes(figures: Iterable[PhotoFigures]) -> dict[str, list[float]]:
    counts = [0] * _BINS
    for photo in figures:
        for mask in photo.masks:
            counts[min(int(sqrt(mask.area / photo.pixels) * _BINS), _BINS - 1)] += 1
    return {"edges": [number / _BINS for number in range(_BINS + 1)], "counts": list(counts)}


def _annotators(drawn: Iterable[MaskFigures]) -> list[dict[str, Any]]:
    by_person: dict[str, list[MaskFigures]] = defaultdict(list)
    for mask in drawn:
        by_person[mask.annotator or ""].append(mask)
    return [
        {
            "annotator": person,
            "masks": len(masks),
            "seconds_a_mask": _spread(mask.seconds for mask in masks if mask.seconds is not None)["mean"],
        }
        for person, masks in sorted(by_person.items(), key=lambda each: (-len(each[1]), each[0]))
    ]
