"""`sam-edge data compare`: two annotations of the same photos.

Photos are paired by name. Of each, the masks of one annotation are paired with those of the other, one to one, so that
the sum of IoUs is largest (H. W. Kuhn, "The Hungarian Method for the Assignment Problem", 1955). "Segment Anything"
(section 5) states the quality of masks so: of masks and their corrected forms, 94 % have an IoU above 0.90, and 97 %
above 0.75; there each mask has exactly one corrected form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sam_edge.data.sa1b import Record, parse_record
from sam_edge.data.skips import BrokenRecordError, Skip
from sam_edge.data.sources import Source, open_source
from sam_edge.evaluation.figures import GOOD, VERY_GOOD
from sam_edge.reporting.names import short_names
from sam_edge_runtime.agreement.metrics import inner_rim, mask_iou
from sam_edge_runtime.arrays import Float64
from sam_edge_runtime.automatic.rle import Rle
from sam_edge_runtime.errors import DataError, UsageError, missing_package

COMPARISON = "sam-edge-comparison"
NAMED = 20  # photos of one annotation alone, and broken records, that are named
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CompareJob:
    """Two annotations.

    Attributes:
        one, other: paths or patterns, as `open_source` takes them.
        boundaries: also compute boundary IoU, which takes most of the time.

    Raises:
        UsageError: both are the same.
    """

    one: str
    other: str
    boundaries: bool = True

    def __post_init__(self) -> None:
        short_names([Path(self.one), Path(self.other)])  # refuses the same path


@dataclass(eq=False)
class Comparison:
    """What two annotations have in common.

    Attributes:
        names: short names of both.
        photos: photos that both have.
        masks: masks of each on these photos, without empty ones.
        pairs: masks that overlap their partner.
        iou, boundary_iou: sums over pairs.
        good, very_good: pairs with an IoU above 0.75 and 0.90.
        only: for each, how many photos the other does not have.
        named: for each, some of these photos.
        broken: records that cannot be compared, and why.
        has_boundaries: whether boundary IoU was computed.
    """

    names: tuple[str, str]
    photos: int = 0
    masks: list[int] = field(default_factory=lambda: [0, 0])
    pairs: int = 0
    iou: float = 0.0
    boundary_iou: float = 0.0
    good: int = 0
    very_good: int = 0
    only: tuple[int, int] = (0, 0)
    named: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    broken: list[str] = field(default_factory=list)
    broken_count: int = 0
    has_boundaries: bool = True

    def rows(self) -> list[tuple[str, str]]:
        """The rows of the table: a name and a value."""
        one, other = self.names
        pairs, masks = max(self.pairs, 1), max(self.masks[0], 1)
        boundary = [("mean boundary IoU of pairs", f"{self.boundary_iou / pairs:.3f}")] if self.has_boundaries else []
        return [
            ("photos in both", f"{self.photos:,}"),
            (f"photos only in {one}", f"{self.only[0]:,}"),
            (f"photos only in {other}", f"{self.only[1]:,}"),
            ("photos that cannot be compared", f"{self.broken_count:,}"),
            (f"masks of {one}", f"{self.masks[0]:,}"),
            (f"masks of {other}", f"{self.masks[1]:,}"),
            ("pairs of masks", f"{self.pairs:,}"),
            ("mean IoU of pairs", f"{self.iou / pairs:.3f}"),
            *boundary,
            ("pairs with an IoU above 0.90", f"{self.very_good / pairs:.1%}"),
            ("pairs with an IoU above 0.75", f"{self.good / pairs:.1%}"),
            (f"mean IoU of all masks of {one}", f"{self.iou / masks:.3f}"),
            ("  of them with an IoU above 0.90", f"{self.very_good / masks:.1%}"),
            ("  of them with an IoU above 0.75", f"{self.good / masks:.1%}"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON; sums over pairs become means."""
        pairs, masks = max(self.pairs, 1), max(self.masks[0], 1)
        return {
            "format": COMPARISON,
            **asdict(self),
            "iou": self.iou / pairs,
            "boundary_iou": self.boundary_iou / pairs if self.has_boundaries else None,
            "shares_of_pairs": {"0.75": self.good / pairs, "0.90": self.very_good / pairs},
            "shares_of_masks": {"0.75": self.good / masks, "0.90": self.very_good / masks},
        }


def compare(job: CompareJob, progress: Progress = lambda done, total: None) -> Comparison:
    """Compare two annotations of the same photos.

    Args:
        job: the annotations.
        progress: called with the photos that were compared, and all that both have.

    Raises:
        DataError: a source cannot be opened, has no masks or a name twice, or both have no photo in common.
        UsageError: a package is missing.
    """
    one, other = (_annotated(each) for each in (job.one, job.other))
    numbers, others = _by_name(one), _by_name(other)
    both = [name for name in numbers if name in others]
    if not both:
        raise DataError(
            f"{job.one} and {job.other} have no photo of the same name, such as {next(iter(numbers))} and "
            f"{next(iter(others))}: name two annotations of the same photos"
        )
    found = Comparison(tuple(short_names([Path(job.one), Path(job.other)])), has_boundaries=job.boundaries)  # type: ignore[arg-type]
    alone = [name for name in numbers if name not in others], [name for name in others if name not in numbers]
    found.only, found.named = (len(alone[0]), len(alone[1])), (tuple(alone[0][:NAMED]), tuple(alone[1][:NAMED]))
    for done, name in enumerate(both):
        progress(done, len(both))
        try:
            first, second = _record(one, numbers[name]), _record(other, others[name])
            if first.size != second.size:
                raise BrokenRecordError(
                    f"one annotation is for {list(first.size)} and the other for {list(second.size)}"
                )
        except BrokenRecordError as error:
            found.broken_count += 1
            if len(found.broken) < NAMED:
                found.broken.append(str(Skip(job.one, name, str(error))))
            continue
        _compare_photo(found, _masks(first), _masks(second))
    if not found.photos:
        raise DataError(f"none of the {len(both)} photos can be compared: {found.broken[0]}")
    progress(len(both), len(both))
    return found


def matched(ious: Float64) -> list[tuple[int, int]]:
    """One-to-one pairs with the largest sum of `ious` `(M, N)`; pairs without an overlap are left out.

    Raises:
        UsageError: scipy is not installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError(f"pairs of masks need {missing_package(error)}: pip install 'sam-edge[evaluate]'") from error
    rows, columns = linear_sum_assignment(ious, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if ious[i, j] > 0]


def _compare_photo(found: Comparison, one: Sequence[Rle], other: Sequence[Rle]) -> None:
    found.photos += 1
    found.masks = [found.masks[0] + len(one), found.masks[1] + len(other)]
    if not one or not other:
        return
    ious = _ious(one, other)
    for i, j in matched(ious):
        iou = float(ious[i, j])
        found.pairs += 1
        found.iou += iou
        found.good += iou > GOOD
        found.very_good += iou > VERY_GOOD
        if found.has_boundaries:
            found.boundary_iou += 1.0 if iou == 1.0 else _boundary_iou(one[i], other[j])


def _ious(one: Sequence[Rle], other: Sequence[Rle]) -> Float64:
    from pycocotools import mask as coco  # noqa: PLC0415

    return np.asarray(
        coco.iou([dict(each) for each in one], [dict(each) for each in other], [0] * len(other)), np.float64
    )


def _boundary_iou(one: Rle, other: Rle) -> float:
    """Boundary IoU of two masks, computed where either of them is."""
    from pycocotools import mask as coco  # noqa: PLC0415

    boxes = np.array(coco.toBbox([dict(one), dict(other)]), np.int64)
    left, top = boxes[:, :2].min(axis=0)
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    height, width = one["size"]
    both = coco.decode([dict(one), dict(other)])[top:bottom, left:right].astype(np.bool_)
    return mask_iou(*(inner_rim(np.ascontiguousarray(both[..., k]), (height, width)) for k in range(2)))


def _masks(record: Record) -> list[Rle]:
    return [each.rle for each in record.annotations if each.area]


def _annotated(what: str) -> Source:
    source = open_source(what, photos_needed=False)
    if not source.annotated:
        raise DataError(f"{what} has photos without masks: name an annotation")
    return source


def _by_name(source: Source) -> dict[str, int]:
    """The numbers of a source's records, by the photos' names without folders."""
    numbers: dict[str, int] = {}
    for number in range(len(source)):
        name = PurePosixPath(source.record_name(number)[1]).name
        if name in numbers:
            raise DataError(f"{source.name} has two photos called {name}: compare its parts one by one")
        numbers[name] = number
    return numbers


def _record(source: Source, number: int) -> Record:
    content = source.read(number, record_only=True).record
    if content is None:
        raise BrokenRecordError("its JSON is missing")
    return parse_record(content, lambda: source.read(number, photo_only=True).photo or b"")
