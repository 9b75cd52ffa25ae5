"""The table of `nano_trials.py`."""

from __future__ import annotations

from .markdown import markdown
from .results import Row


def nano_trials_table(trials: dict[str, Row]) -> str:
    """IoU with people's masks after each trial, and how many photos it saw; the best of a column is bold."""
    head = ("trial", "steps", "photos seen", "COCO: box", "1 click", "3 clicks", "CCP: box", "1 click", "3 clicks")
    figures = {name: _figures(row) for name, row in trials.items()}
    best = [max(column) for column in zip(*figures.values(), strict=True)]
    cells = []
    for name, row in trials.items():
        shown = [
            f"**{value:.3f}**" if value == most else f"{value:.3f}"
            for value, most in zip(figures[name], best, strict=True)
        ]
        cells.append([row["what"], f"{row['steps']:,}", f"{row['views']:,}", *shown])
    return markdown(head, cells)


def _figures(row: Row) -> list[float]:
    return [figure for data in ("coco", "ccp") for figure in (row[data]["box"], *row[data]["clicks"][::2])]
