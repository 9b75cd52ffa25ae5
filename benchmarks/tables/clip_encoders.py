"""The table of `clip_encoders.py`."""

from __future__ import annotations

from .markdown import markdown, median_range
from .results import Row


def clip_encoders_table(rows: list[Row]) -> str:
    """Size, cosine with fp32 torch and time of each artifact; bold cosines miss their precision's bound."""
    head = ("encoder", "target", "precision", "MB", "lowest cosine with torch", "ms, one thread", "time / fp32")
    cells = []
    for row in rows:
        cosine = f"{row['cosine']:.5f}"
        cells.append(
            [
                f"{row['model']} {row['encoder']}",
                row["target"],
                row["precision"],
                f"{row['bytes'] / 1e6:,.1f}",
                f"**{cosine}**" if row["missed"] else cosine,
                f"{1e3 * row['seconds']['p50']:,.1f}" if "seconds" in row else "",
                median_range(row.get("of_fp32")),
            ]
        )
    return markdown(head, cells)
