"""The table of `frame_masks.py`."""

from __future__ import annotations

from .markdown import markdown
from .results import Row


def frame_masks_table(rows: list[Row]) -> str:
    """The mIoU with human masks in the square and in the frame that fits, and the interval of the difference."""
    head = ("", "photos", "masks", "square", "frame", "frame - square, 95 %")
    cells = []
    for row in rows:
        prompt = f"{row['clicks']} click{'s'[: row['clicks'] > 1]}" if row["clicks"] else "box"
        difference = f"{row['fitting'] - row['square']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        cells.append(
            [
                f"{row['data']}, {prompt}",
                row["photos"],
                row["masks"],
                f"{row['square']:.4f}",
                f"{row['fitting']:.4f}",
                difference,
            ]
        )
    return markdown(head, cells)
