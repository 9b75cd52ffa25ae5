"""The plots of a description, as PNG files: figures 5 and 6 of "Segment Anything" (arXiv 2304.02643)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from sam_edge.reporting.pages import empty_figure
from sam_edge_runtime.arrays import Int64

from .statistics import CENTRE_BINS, CONCAVITY_BINS, MOST_MASKS, SIDE_BINS, SIDE_STEP, SIZE_BINS, Statistics

_DPI, _ACROSS = 110, 4  # heat maps in a row
_JOINED_SIZES, _JOINED_CONCAVITIES = 5, 2  # bins that are drawn as one
_FEWEST_PLACES = 12  # along a side of a heat map
_LEAST_IN_PLACE = 4  # masks in a place of a heat map, on average; with fewer it has fewer places


def draw_all(names: Sequence[str], statistics: Sequence[Statistics], equal_sizes: Sequence[Any]) -> dict[str, bytes]:
    """The plots by their files' names; those of masks are left out where there are none.

    Args:
        names: of the sources.
        statistics: of each source.
        equal_sizes: shares of masks by concavity, as if all sources had masks of the same sizes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    labels = [
        f"{name} ({each.photos:,} photos, {each.masks:,} masks)" for name, each in zip(names, statistics, strict=True)
    ]
    plots = {"photos.png": _photos(labels, statistics)}
    if any(each.masks for each in statistics):
        plots |= {
            "masks.png": _masks(labels, statistics),
            "sizes.png": _sizes(labels, statistics),
            "concavity.png": _concavity(names, statistics, equal_sizes),
            "centres.png": _centres(names, statistics),
        }
    return plots


def _masks(labels: Sequence[str], statistics: Sequence[Statistics]) -> bytes:
    """Shares of photos with at least so many masks: a line for each source, which needs no bins."""
    picture, axes = _axes()
    for number, (label, each) in enumerate(zip(labels, statistics, strict=True)):
        at_least = np.cumsum(each.masks_of_photo[::-1])[::-1] / each.photos
        axes.step(np.arange(1, MOST_MASKS + 1), at_least[1:], where="post", color=f"C{number}", label=label)
    last = max(int(np.flatnonzero(each.masks_of_photo)[-1]) for each in statistics)
    axes.set_xscale("log")
    axes.set_xlim(1, max(10, last))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("masks of a photo")
    axes.set_ylabel("share of photos with so many or more")
    return _file(picture, axes)


def _sizes(labels: Sequence[str], statistics: Sequence[Statistics]) -> bytes:
    picture, axes = _axes()
    for number, (label, each) in enumerate(zip(labels, statistics, strict=True)):
        axes.plot(*_shares(each.sizes / max(each.masks, 1), _JOINED_SIZES), color=f"C{number}", label=label)
    axes.set_yscale("log")
    axes.set_xlabel("relative size of a mask")
    axes.set_ylabel(f"share of masks in {_JOINED_SIZES / SIZE_BINS:g} of the size")
    return _file(picture, axes)


def _concavity(names: Sequence[str], statistics: Sequence[Statistics], equal_sizes: Sequence[Any]) -> bytes:
    picture, axes = _axes()
    for number, (name, each, equal) in enumerate(zip(names, statistics, equal_sizes, strict=True)):
        if len(names) > 1:
            axes.plot(*_shares(equal, _JOINED_CONCAVITIES), color=f"C{number}", label=name)
        style = {"linestyle": ":", "linewidth": 1.0} if len(names) > 1 else {"label": name}
        shares = each.concavities / max(each.masks, 1)
        axes.plot(*_shares(shares, _JOINED_CONCAVITIES), color=f"C{number}", **style)
    axes.set_yscale("log")
    axes.set_xlabel("concavity of a mask" + ("; dotted: with the sizes that each source has" if len(names) > 1 else ""))
    axes.set_ylabel(f"share of masks in {_JOINED_CONCAVITIES / CONCAVITY_BINS:g} of the concavity")
    return _file(picture, axes)


def _centres(names: Sequence[str], statistics: Sequence[Statistics]) -> bytes:
    """A heat map for each source. Each has its own scale, from 0 to its densest place."""
    columns = min(_ACROSS, len(names))
    rows = -(-len(names) // columns)
    picture = empty_figure(2.4 * columns, 2.6 * rows, dpi=_DPI)
    for number, (name, each) in enumerate(zip(names, statistics, strict=True)):
        axes = picture.add_subplot(rows, columns, number + 1)
        places = _places(each)
        axes.imshow(places, cmap="magma", extent=(0, 1, 1, 0), vmin=0, vmax=max(1, places.max()))
        axes.set_title(_plain(name), fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    return _file(picture)


def _places(statistics: Statistics) -> Int64:
    """Masks by place of their centre, in as many places as there are masks for."""
    places, joined = statistics.centres, 1
    while len(places) > _FEWEST_PLACES and statistics.masks < _LEAST_IN_PLACE * places.size:
        joined *= 2
        side = CENTRE_BINS // joined
        places = statistics.centres.reshape(side, joined, side, joined).sum(axis=(1, 3))
    return places


def _shares(shares: Any, joined: int) -> tuple[Any, Any]:
    """Middles of bins from 0 to 1, and the shares in them, several of the given bins in one; empty ones are gaps."""
    sums = shares.reshape(-1, joined).sum(axis=1)
    return (np.arange(len(sums)) + 0.5) / len(sums), np.where(sums > 0, sums, np.nan)


def _photos(labels: Sequence[str], statistics: Sequence[Statistics]) -> bytes:
    picture, axes = _axes()
    places = (np.arange(SIDE_BINS) + 0.5) * SIDE_STEP
    for number, (label, each) in enumerate(zip(labels, statistics, strict=True)):
        for sides, line in ((each.short_sides, "-"), (each.long_sides, ":")):
            shares = np.cumsum(sides) / each.photos
            axes.plot(places, shares, line, color=f"C{number}", label=label if line == "-" else None)
    last = max(int(np.flatnonzero(each.long_sides)[-1]) for each in statistics)
    axes.set_xlim(0, (last + 2) * SIDE_STEP)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("shorter side of a photo in pixels; dotted: longer side")
    axes.set_ylabel("share of photos up to this side")
    return _file(picture, axes)


def _axes() -> tuple[Any, Any]:
    picture = empty_figure(7.0, 4.0, dpi=_DPI)
    axes = picture.add_subplot()
    axes.grid(visible=True, alpha=0.3)
    return picture, axes


def _file(picture: Any, axes: Any = None) -> bytes:
    if axes is not None:
        legend = axes.legend(fontsize=7)
        for text in legend.get_texts():
            text.set_text(_plain(text.get_text()))
    content = io.BytesIO()
    picture.savefig(content, format="png")
    return content.getvalue()


def _plain(name: str) -> str:
    """A name without the signs that begin mathematics in matplotlib."""
    return name.replace("$", r"\$")
