"""Table of `parity.py`."""

from __future__ import annotations

from .markdown import bold, markdown
from .results import Row

KINDS = ("features", "masks", "iou", "object_score")


def parity_table(rows: list[Row]) -> str:
    """Largest differences of each model from its authors' code, as shares of that code's largest value."""
    head = ("model", "beside", "side", "names and shapes", "features", "masks", "IoU", "object score", "chosen mask")
    cells = []
    for row in rows:
        line = [f"`{row['variant']}`", row["reference"] or "", row.get("side", "")]
        line.append(bold("same" if row["names"] else "others", row["names"]))
        line += [f"{row[kind]:.0e}".replace("e-0", "e-").replace("0e+00", "0") if kind in row else "" for kind in KINDS]
        line.append("" if "chosen" not in row else bold("same" if row["chosen"] else "others", row["chosen"]))
        cells.append(line)
    return markdown(head, cells)
