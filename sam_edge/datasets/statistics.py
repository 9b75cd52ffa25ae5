"""Histograms of photos and masks, as in figures 5 and 6 of "Segment Anything" (arXiv 2304.02643).

Their size does not grow with the data, and the statistics of parts can be added to those of the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge.data.skips import Skip
from sam_edge.evaluation.figures import SIZES
from sam_edge_runtime.arrays import Float64, Int64

from .mask_shapes import MaskShapes

MOST_MASKS = 1000  # of a photo that are told apart
SIZE_BINS = 100  # of the relative size, 0..1
CONCAVITY_BINS = 50  # of the concavity, 0..1
CENTRE_BINS = 48  # along each side of the photo; three and four divide it
SIDE_STEP, SIDE_BINS = 20, 500  # pixels of a bin of a photo's side; the last bin holds all longer ones
MOST_RESOLUTIONS = 4096  # different sizes of photos that are counted one by one
NAMED = 20  # broken records that are named

_ARRAYS = {
    "masks_of_photo": (MOST_MASKS + 1,),
    "size_and_concavity": (SIZE_BINS, CONCAVITY_BINS),
    "centres": (CENTRE_BINS, CENTRE_BINS),
    "short_sides": (SIDE_BINS,),
    "long_sides": (SIDE_BINS,),
    "coco_sizes": (len(SIZES),),
}


def _zeros(name: str) -> Callable[[], Int64]:
    return lambda: np.zeros(_ARRAYS[name], np.int64)


@dataclass(eq=False)
class Statistics:
    """The statistics of some records.

    Attributes:
        photos: records that were read.
        masks: their masks, without empty ones.
        empty: masks without a pixel.
        crowds: masks of groups of objects, among `masks`.
        broken: records that cannot be used.
        relative_size, concavity: sums over masks.
        masks_of_photo: photos by number of masks; the last counts `MOST_MASKS` and more.
        size_and_concavity: masks by relative size and concavity.
        centres: masks by place of their centre: row, column.
        short_sides, long_sides: photos by their sides.
        coco_sizes: masks by COCO's sizes in pixels: small, medium, large.
        resolutions: photos by (H, W); at most `MOST_RESOLUTIONS` of them.
        named: some of the broken records, by their numbers in the source.
    """

    photos: int = 0
    masks: int = 0
    empty: int = 0
    crowds: int = 0
    broken: int = 0
    relative_size: float = 0.0
    concavity: float = 0.0
    masks_of_photo: Int64 = field(default_factory=_zeros("masks_of_photo"))
    size_and_concavity: Int64 = field(default_factory=_zeros("size_and_concavity"))
    centres: Int64 = field(default_factory=_zeros("centres"))
    short_sides: Int64 = field(default_factory=_zeros("short_sides"))
    long_sides: Int64 = field(default_factory=_zeros("long_sides"))
    coco_sizes: Int64 = field(default_factory=_zeros("coco_sizes"))
    resolutions: Counter[tuple[int, int]] = field(default_factory=Counter)
    named: dict[int, Skip] = field(default_factory=dict)

    def add_photo(self, size: tuple[int, int], shapes: MaskShapes | None = None, crowds: int = 0) -> None:
        """Count a photo of (H, W) `size` in pixels, with its masks; `crowds` of them are of groups."""
        self.photos += 1
        for sides, side in ((self.short_sides, min(size)), (self.long_sides, max(size))):
            sides[min(side // SIDE_STEP, SIDE_BINS - 1)] += 1
        if size in self.resolutions or len(self.resolutions) < MOST_RESOLUTIONS:
            self.resolutions[size] += 1
        count = 0
        if shapes is not None:
            real = shapes.areas > 0
            count = int(real.sum())
            self.empty += len(real) - count
            self._add_masks(size, shapes, real)
        self.masks, self.crowds = self.masks + count, self.crowds + crowds
        self.masks_of_photo[min(count, MOST_MASKS)] += 1

    def _add_masks(self, size: tuple[int, int], shapes: MaskShapes, real: npt.NDArray[np.bool_]) -> None:
        height, width = size
        areas = shapes.areas[real]
        relative = np.sqrt(areas / (height * width))
        concavity = 1.0 - areas / np.maximum(shapes.hull_areas[real], 1.0)
        self.relative_size += float(relative.sum())
        self.concavity += float(concavity.sum())
        np.add.at(self.size_and_concavity, (_bins(relative, SIZE_BINS), _bins(concavity, CONCAVITY_BINS)), 1)
        x, y = (shapes.centres[real] / (width, height)).T
        np.add.at(self.centres, (_bins(y, CENTRE_BINS), _bins(x, CENTRE_BINS)), 1)
        self.coco_sizes += [int(((areas >= low) & (areas < high)).sum()) for low, high in SIZES.values()]

    def add_broken(self, number: int, skip: Skip) -> None:
        """Count a record that cannot be used, by its number in the source."""
        self.broken += 1
        if len(self.named) < NAMED:
            self.named[number] = skip

    def add(self, other: Statistics) -> None:
        """Add the statistics of other records. The order does not matter, except for very many resolutions."""
        for name in ("photos", "masks", "empty", "crowds", "broken", "relative_size", "concavity"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _ARRAYS:
            getattr(self, name).__iadd__(getattr(other, name))
        for size, count in other.resolutions.items():
            if size in self.resolutions or len(self.resolutions) < MOST_RESOLUTIONS:
                self.resolutions[size] += count
        self.named = dict(sorted({**self.named, **other.named}.items())[:NAMED])

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = {name: getattr(self, name).tolist() for name in _ARRAYS}
        scalars = ("photos", "masks", "empty", "crowds", "broken", "relative_size", "concavity")
        return {
            **{name: getattr(self, name) for name in scalars},
            **plain,
            "resolutions": [[height, width, count] for (height, width), count in self.resolutions.most_common()],
            "named": [[number, skip.source, skip.key, skip.reason] for number, skip in self.named.items()],
        }

    @classmethod
    def from_json(cls, document: Any) -> Statistics:
        """Statistics from the values that `to_json` gave.

        Raises:
            ValueError, TypeError, KeyError: they are something else.
        """
        arrays: dict[str, Any] = {name: np.array(document[name], np.int64) for name in _ARRAYS}
        wrong = [name for name, shape in _ARRAYS.items() if arrays[name].shape != shape]
        if wrong:
            raise ValueError(f"its {wrong[0]} has the shape {arrays[wrong[0]].shape}")
        counts: dict[str, Any] = {
            name: int(document[name]) for name in ("photos", "masks", "empty", "crowds", "broken")
        }
        return cls(
            **counts,
            relative_size=float(document["relative_size"]),
            concavity=float(document["concavity"]),
            **arrays,
            resolutions=Counter({(int(h), int(w)): int(count) for h, w, count in document["resolutions"]}),
            named={int(number): Skip(*map(str, names)) for number, *names in document["named"]},
        )

    @property
    def sizes(self) -> Int64:
        """Masks by relative size."""
        return np.asarray(self.size_and_concavity.sum(axis=1))

    @property
    def concavities(self) -> Int64:
        """Masks by concavity."""
        return np.asarray(self.size_and_concavity.sum(axis=0))


def concavities_of_equal_sizes(several: Sequence[Statistics]) -> list[Float64]:
    """For each source the shares of masks by concavity (`CONCAVITY_BINS`), as if all had masks of the same sizes.

    Small masks are less concave, so sources with other sizes cannot be compared as they are. The paper samples masks
    by their sizes for its figure 6; here each bin of the size counts with the smallest share that it has in any source.
    """
    filled = [each for each in several if each.masks]
    if not filled:
        return [np.zeros(CONCAVITY_BINS) for _ in several]
    weights = np.min([each.sizes / each.masks for each in filled], axis=0)
    if not weights.sum():
        return [each.concavities / max(each.masks, 1) for each in several]
    weights = weights / weights.sum()
    return [
        (each.size_and_concavity / np.maximum(each.sizes, 1)[:, None] * weights[:, None]).sum(axis=0)
        for each in several
    ]


def quantile(counts: Int64, share: float, top: float = 1.0) -> float:
    """The value below which a share of a histogram lies, within a bin by a straight line.

    Args:
        counts: of bins of equal width, the first of which begins at 0.
        share: between 0 and 1.
        top: where the last bin ends.
    """
    total = counts.sum()
    if not total:
        return 0.0
    sums = np.concatenate([[0], np.cumsum(counts)])
    return float(np.interp(share * total, sums, np.linspace(0, top, len(sums))))


def _bins(values: Float64, count: int) -> Int64:
    """The bin of each value from 0 to 1."""
    return np.clip((values * count).astype(np.int64), 0, count - 1)
