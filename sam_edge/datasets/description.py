"""The figures of a description: a table, JSON, and a page with plots."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge.evaluation.figures import SIZES
from sam_edge.reporting.folders import DESCRIPTION, DESCRIPTION_PLOTS
from sam_edge.reporting.names import short_names
from sam_edge.reporting.pages import render
from sam_edge.reporting.versions import tool_versions
from sam_edge_runtime.errors import UsageError, missing_package

from .plots import draw_all
from .statistics import (
    CENTRE_BINS,
    CONCAVITY_BINS,
    MOST_MASKS,
    SIDE_BINS,
    SIDE_STEP,
    Statistics,
    concavities_of_equal_sizes,
    quantile,
)

TEMPLATE = "description.html.j2"
# Masks of a photo, as in the left plot of figure 6 of the paper.
MASK_RANGES = ((0, 0), (1, 10), (11, 50), (51, 100), (101, 200), (201, MOST_MASKS))
CAPTIONS = {
    "masks.png": "Masks of a photo",
    "sizes.png": "Relative size of masks: the square root of their share of the photo",
    "concavity.png": "Concavity of masks: 1 - area / area of the convex hull",
    "centres.png": "Where the centres of masks lie",
    "photos.png": "Sides of photos",
}

Row = tuple[str, list[str]]


@dataclass(frozen=True, eq=False)
class Description:
    """The statistics of several sources.

    Attributes:
        names: short names of the sources.
        sources: the sources as they were named.
        statistics: of each.
        equal_sizes: shares of masks by concavity, as if all sources had masks of the same sizes.
    """

    names: tuple[str, ...]
    sources: tuple[str, ...]
    statistics: tuple[Statistics, ...]
    equal_sizes: tuple[Any, ...]

    @classmethod
    def of(cls, sources: Sequence[str], statistics: Sequence[Statistics]) -> Description:
        """The description of sources, in their order."""
        equal = tuple(concavities_of_equal_sizes(statistics))
        return cls(tuple(short_names([Path(each) for each in sources])), tuple(sources), tuple(statistics), equal)

    def rows(self) -> list[Row]:
        """The rows of the table: a name, and a cell for each source."""

        def row(name: str, value: Callable[[Statistics], str]) -> Row:
            return name, [value(each) for each in self.statistics]

        filled = any(each.masks for each in self.statistics)
        photos = [
            row("photos", lambda s: f"{s.photos:,}"),
            row("masks", lambda s: f"{s.masks:,}"),
            row("  of them of groups (crowds)", lambda s: f"{s.crowds:,}"),
            row("empty masks, not counted", lambda s: f"{s.empty:,}"),
            row("broken records", lambda s: f"{s.broken:,}"),
            row("sides of photos in pixels: median", lambda s: f"{_side(s, min):.0f} x {_side(s, max):.0f}"),
            row("most frequent H x W", _resolutions),
        ]
        if not filled:
            return photos
        return [
            *photos[:5],
            row("masks of a photo: mean", lambda s: f"{s.masks / s.photos:.1f}"),
            row("  median (5 % to 95 %)", _masks_of_photo),
            *(row(f"  {name}", lambda s, r=each: f"{_range_share(s, r):.1%}") for name, each in self._ranges()),  # type: ignore[misc]
            row("relative size of masks: mean", lambda s: _mean(s.relative_size, s.masks)),
            row("  median (5 % to 95 %)", lambda s: _spread(s.sizes)),
            row("small / medium / large (COCO)", _coco_sizes),
            row("concavity of masks: mean", lambda s: _mean(s.concavity, s.masks)),
            row("  median (5 % to 95 %)", lambda s: _spread(s.concavities)),
            (
                "  mean, masks of the same sizes",
                [f"{concavity_mean(each):.3f}" if each.any() else "-" for each in self.equal_sizes],
            ),
            row("centres in the middle ninth of the photo", lambda s: f"{_ninths(s)[1, 1]:.1%}"),
            row("centres in the four corner ninths", lambda s: f"{_ninths(s)[::2, ::2].sum():.1%}"),
            *photos[5:],
        ]

    def _ranges(self) -> list[tuple[str, tuple[int, int]]]:
        """The ranges of masks of a photo that some photo is in, with their names."""
        named = [
            ("none" if high == 0 else f"more than {low - 1}" if high == MOST_MASKS else f"{low} to {high}", (low, high))
            for low, high in MASK_RANGES
        ]
        return [each for each in named if any(_range_share(one, each[1]) for one in self.statistics)]

    def to_json(self) -> dict[str, Any]:
        """The figures and histograms, for JSON. Sources are named without the folders that they lie in."""
        return {
            "format": DESCRIPTION,
            "sources": [
                {"name": name, **_figures(each), "concavity_of_equal_sizes": concavity_mean(equal), **_plain(each)}
                for name, each, equal in zip(self.names, self.statistics, self.equal_sizes, strict=True)
            ],
            "made_with": tool_versions(("numpy", "pycocotools", "matplotlib")),
        }

    def broken(self) -> list[str]:
        """A line for each broken record that is named."""
        return [
            f"{skip.key} of {name}: {skip.reason}"
            for name, each in zip(self.names, self.statistics, strict=True)
            for skip in each.named.values()
        ]


def report_files(description: Description) -> dict[str, bytes]:
    """The files of a report by name: the page, its plots and the figures.

    Raises:
        UsageError: matplotlib or jinja2 is missing.
    """
    try:
        plots = draw_all(description.names, description.statistics, description.equal_sizes)
        page = render(
            Path(__file__).with_name(TEMPLATE),
            names=description.names,
            rows=description.rows(),
            broken=description.broken(),
            captions=CAPTIONS,
            pictures={name: base64.b64encode(plots[name]).decode() for name in DESCRIPTION_PLOTS if name in plots},
            made_with=tool_versions(("numpy", "pycocotools", "matplotlib")),
        )
    except ImportError as error:
        raise UsageError(f"the page needs {missing_package(error)}: pip install 'sam-edge[evaluate]'") from error
    return {"report.json": json.dumps(description.to_json()).encode(), "report.html": page.encode(), **plots}


def concavity_mean(shares: Any) -> float:
    """The mean of the concavity of a histogram of shares, from the middles of its bins."""
    return float((shares * (np.arange(CONCAVITY_BINS) + 0.5) / CONCAVITY_BINS).sum())


def _figures(statistics: Statistics) -> dict[str, Any]:
    masks = max(statistics.masks, 1)
    return {
        "masks_a_photo": statistics.masks / max(statistics.photos, 1),
        # Rounded, because sums depend on the order in which processes finish.
        "mean_relative_size": round(statistics.relative_size / masks, 6),
        "mean_concavity": round(statistics.concavity / masks, 6),
    }


def _plain(statistics: Statistics) -> dict[str, Any]:
    plain = statistics.to_json()
    plain["resolutions"] = plain["resolutions"][:100]
    plain["named"] = [{"record": key, "reason": reason} for _, _, key, reason in plain["named"]]
    del plain["relative_size"], plain["concavity"]
    return plain


def _range_share(statistics: Statistics, limits: tuple[int, int]) -> float:
    low, high = limits
    return float(statistics.masks_of_photo[low : high + 1].sum() / statistics.photos)


def _masks_of_photo(statistics: Statistics) -> str:
    sums = np.cumsum(statistics.masks_of_photo)
    low, middle, high = (int(np.searchsorted(sums, share * statistics.photos)) for share in (0.05, 0.5, 0.95))
    return f"{middle} ({low} to {high})"


def _mean(total: float, count: int) -> str:
    return f"{total / count:.3f}" if count else "-"


def _spread(counts: Any) -> str:
    if not counts.sum():
        return "-"
    low, middle, high = (quantile(counts, share) for share in (0.05, 0.5, 0.95))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _coco_sizes(statistics: Statistics) -> str:
    masks = max(statistics.masks, 1)
    return " / ".join(f"{count / masks:.0%}" for count, _ in zip(statistics.coco_sizes.tolist(), SIZES, strict=True))


def _ninths(statistics: Statistics) -> Any:
    """Shares (3, 3) of the centres in each ninth of the photo: row, column."""
    part = CENTRE_BINS // 3
    counts = statistics.centres.reshape(3, part, 3, part).sum(axis=(1, 3))
    return counts / max(statistics.masks, 1)


def _side(statistics: Statistics, which: Callable[[tuple[int, int]], int]) -> float:
    """The median of the shorter (`min`) or longer side (`max`); within a bin's width if not all sizes were counted."""
    if statistics.resolutions.total() < statistics.photos:
        counts = statistics.short_sides if which is min else statistics.long_sides
        return quantile(counts, 0.5, SIDE_BINS * SIDE_STEP)
    sides = [which(size) for size in statistics.resolutions]
    return float(np.median(np.repeat(sides, list(statistics.resolutions.values()))))


def _resolutions(statistics: Statistics) -> str:
    (height, width), count = statistics.resolutions.most_common(1)[0]
    return f"{height} x {width} ({count / statistics.photos:.0%})"
