"""The table of `automatic.py`."""

from __future__ import annotations

from statistics import fmean, median

from .markdown import markdown
from .results import Row

REFERENCE = "segment_anything"  # of automatic masks


def automatic_table(runs: list[Row]) -> str:
    """Automatic masks beside the reference: medians over photos and rounds, ratios with their least and greatest."""
    head = ("", "seconds a photo", "/ reference", "peak GB", "/ reference", "masks", "IoU with the reference")
    reference = {(run["photo"], run["round"]): run for run in runs if run["kind"] == REFERENCE}
    rows = []
    for kind in dict.fromkeys(run["kind"] for run in runs):
        own = [run for run in runs if run["kind"] == kind]
        cells = [kind]
        for name, scale in (("seconds", 1.0), ("peak_bytes", 1e9)):
            shares = [run[name] / reference[run["photo"], run["round"]][name] for run in own]
            cells.append(f"{median(run[name] for run in own) / scale:.1f}")
            cells.append("" if kind == REFERENCE else f"{median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})")
        cells.append(f"{fmean(run['masks'] for run in own):.1f}")
        cells.append("" if kind == REFERENCE else f"{fmean(run['agreement'] for run in own):.4f}")
        rows.append(cells)
    return markdown(head, rows)
