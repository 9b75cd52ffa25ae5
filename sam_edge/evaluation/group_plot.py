"""The plot of figures by group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam_edge.reporting.pages import empty_figure
from sam_edge_runtime.errors import UsageError

from .against import points_name
from .groups import POINTS, GroupedFigures
from .report import column


def draw_groups(path: Path, figures: Sequence[GroupedFigures]) -> None:
    """Plot the mIoU of each group after 1 and 3 points, with its interval; a panel for each of `figures`.

    Raises:
        UsageError: matplotlib is not installed.
    """
    subjects = len({each.subject for each in figures})
    lines = sum(len(each.groups) for each in figures)
    try:
        picture = empty_figure(6.4, 1.2 + 0.32 * lines + 0.5 * len(figures), dpi=120)
    except ImportError as error:
        raise UsageError("the plot needs matplotlib: pip install 'sam-edge[evaluate]'") from error
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
