"""The table of exports in the documentation, from the JSON that `exports.py` wrote.

python benchmarks/exports_table.py benchmarks/results/exports.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = (
    "| export | embedding SNR | mask mIoU | boundary IoU | IoU prediction | lowest mask IoU | MB | seconds | peak GB |"
)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row an export; a refusal has its line instead of figures."""
    return "\n".join([HEAD, "|---" + "|---:" * (HEAD.count("|") - 2) + "|", *(_row(row) for row in rows)])


def _row(row: dict[str, Any]) -> str:
    name = f"{row['variant']} {row['target']} {row['precision']}" + (" ane" if row["graph"] == "ane" else "")
    cost = f"{row['seconds']:,.0f} | {row['peak_bytes'] / 1e9:.1f} |"
    if "error" in row:
        return f"| {name} | {row['error']} | | | | | | {cost}"
    figures = (
        f"{row['embedding_snr_db']:.1f} dB",
        f"{row['mask_miou']:.6f}",
        f"{row['boundary_miou']:.6f}",
        f"{row['iou_prediction_error']:.1e}",
        f"{row['worst']['mask_iou']:.6f}",
        f"{row['bytes'] / 1e6:,.0f}",
    )
    return f"| {name} | {' | '.join(figures)} | {cost}"


if __name__ == "__main__":
    print(table([row for path in sys.argv[1:] for row in json.loads(Path(path).read_text())["exports"]]))
