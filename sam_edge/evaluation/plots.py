"""Plots of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge.reporting.pages import empty_figure
from sam_edge_runtime.errors import UsageError

from .against import points_name
from .automatic import RANKS, AutomaticFigures
from .figures import Figures
from .groups import POINTS, GroupedFigures
from .tables import column


def draw_curve(path: Path, figures: Sequence[Figures]) -> None:
    """Plot mIoU against clicks, with the box and the best baseline as lines.

    Raises:
        UsageError: matplotlib is not installed.
    """
    subjects = len({each.subject for each in figures})
    picture, axes = _axes()
    for number, each in enumerate(figures):
        colour, name = f"C{number}", column(each.subject, each.data, subjects)
        clicks = range(1, len(each.shown) + 1)
        axes.plot(clicks, each.shown, "o-", color=colour, label=f"{name}: clicks")
        if subjects > 1:
            axes.axhline(each.box.single, color=colour, linestyle="--", linewidth=0.8)
            continue
        axes.axhline(each.box.single, color=colour, linestyle="--", label=f"{name}: box")
        baseline, value = max(each.baselines.items(), key=lambda item: item[1])
        axes.axhline(value, color=colour, linestyle=":", label=f"{name}: {baseline}, no network")
    axes.set_xlabel("clicks" if subjects == 1 else "clicks; dashed: a box")
    axes.set_ylabel("mIoU with human masks")
    axes.set_ylim(0.0, 1.0)
    axes.set_xticks(range(1, len(figures[0].shown) + 1))
    axes.legend(fontsize=8, loc="lower right")
    picture.savefig(path)


def draw_recall(path: Path, figures: Sequence[AutomaticFigures]) -> None:
    """Plot average recall of automatic masks against the number of masks per photo that count.

    Raises:
        UsageError: matplotlib is not installed.
    """
    subjects = len({each.subject for each in figures})
    picture, axes = _axes()
    for number, each in enumerate(figures):
        name = column(each.subject, each.data, subjects)
        axes.plot(RANKS, list(each.recall.values()), "o-", color=f"C{number}", label=name)
    axes.set_xscale("log")
    axes.set_xticks(RANKS, [str(rank) for rank in RANKS])
    axes.set_xlabel("masks of a photo that count, highest predicted IoU first")
    axes.set_ylabel("average recall of human masks")
    highest = max(max(each.recall.values()) for each in figures)
    axes.set_ylim(0.0, min(1.0, 1.15 * highest) or 1.0)
    axes.legend(fontsize=8, loc="lower right")
    picture.savefig(path)


def _axes() -> tuple[Any, Any]:
    picture = _figure(6.4, 4.2)
    axes = picture.add_subplot()
    axes.grid(visible=True, alpha=0.3)
    return picture, axes


def draw_groups(path: Path, figures: Sequence[GroupedFigures]) -> None:
    """Plot the mIoU of each group after 1 and 3 points, with its interval; a panel for each of `figures`.

    Raises:
        UsageError: matplotlib is not installed.
    """
    subjects = len({each.subject for each in figures})
    lines = sum(len(each.groups) for each in figures)
    picture = _figure(6.4, 1.2 + 0.32 * lines + 0.5 * len(figures))
    heights = [len(each.groups) + 1 for each in figures]
    panels = picture.subplots(len(figures), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})
    for axes, each in zip(panels[:, 0], figures, strict=True):
        places = np.arange(len(each.groups))
        for number, count in enumerate(POINTS):
            intervals = [group.points[number] for group in each.groups]
            means = np.array([interval.mean for interval in intervals])
            low = np.array([interval.mean if interval.low is None else interval.low for interval in intervals])
            high = np.array([interval.mean if interval.high is None else interval.high for interval in intervals])
            offset = 0.2 * (number - (len(POINTS) - 1) / 2)
            axes.errorbar(
                means, places + offset, xerr=[means - low, high - means], fmt="o", capsize=3, label=points_name(count)
            )
        axes.set_yticks(places, [_plain(f"{group.respect}: {group.group}") for group in each.groups])
        axes.set_ylim(len(each.groups) - 0.5, -0.5)
        axes.set_title(_plain(column(each.subject, each.data, subjects)), fontsize=9)
        axes.grid(visible=True, alpha=0.3)
    panels[-1, 0].set_xlabel("mIoU with human masks, and its 95 % interval")
    panels[0, 0].legend(fontsize=8)
    picture.savefig(path)


def _plain(name: str) -> str:
    """A name from a file as matplotlib shows it unchanged: a dollar sign would begin a formula."""
    return name.replace("$", r"\$")


def _figure(width: float, height: float) -> Any:
    try:
        return empty_figure(width, height, dpi=120)
    except ImportError as error:
        raise UsageError("the plots need matplotlib: pip install 'sam-edge[evaluate]'") from error
