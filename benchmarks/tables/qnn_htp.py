"""The table of `qnn_htp.py`."""

from __future__ import annotations

from .markdown import markdown
from .results import Row


def qnn_table(rows: list[Row]) -> str:
    """Bundles for NPUs: what QNN's compiler takes, and masks by ONNX Runtime and by QNN's simulator."""
    head = (
        *("bundle", "Hexagon", "QNN operations", "left to the CPU", "embedding SNR: ONNX Runtime", "QNN simulator"),
        *("mask mIoU: ONNX Runtime", "QNN simulator"),
    )
    cells = []
    for row in rows:
        encoder, measured = row["encoder.onnx"], (row["report"], row["simulated"])
        cells.append(
            [
                f"{row['variant']} {row['input_side']} `{row['precision']}`",
                f"V{row['arch']}",
                sum(encoder["operations"].values()),
                len(encoder["left_out"]),
                *(f"{each['embedding_snr_db']:.1f} dB" for each in measured),
                *(f"{each['mask_miou']:.4f}" for each in measured),
            ]
        )
    return markdown(head, cells)
