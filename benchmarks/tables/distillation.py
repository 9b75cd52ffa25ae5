"""The table of `distillation.py`."""

from __future__ import annotations

from .markdown import markdown
from .results import Row


def distillation_table(rows: list[Row]) -> str:
    """MIoU of students after each plan."""
    figures = ("box", "1 clicks", "3 clicks")
    cells = [[row["student"], row["plan"], *(f"{row[figure]:.3f}" for figure in figures)] for row in rows]
    return markdown(("student", "plan", "box", "1 click", "3 clicks"), cells)
