"""The table of `int8_peers.py`."""

from __future__ import annotations

from sam_edge_runtime.bundle.targets import TARGETS

from .markdown import failed, markdown, median_range
from .results import VARIANTS, Row


def int8_peers_table(rows: list[Row]) -> str:
    """Our INT8 beside other quantizers': size, time and masks as shares of the same target's fp32 bundle."""
    head = (
        *("", "graphs / fp32", "encoder time / fp32", "click time / fp32", "embedding SNR", "mask mIoU with fp32"),
        *("lowest mask IoU", "human masks, COCO"),
    )
    cells = []
    for row in sorted(rows, key=lambda each: (VARIANTS.index(each["model"]), _target_of(each["row"]))):
        ours = row["row"].split()[0] in TARGETS
        name = f"{row['model']} " + (f"**{row['row']}**" if ours else row["row"])
        if "error" in row:
            cells.append(failed(name, row["error"], head))
            continue
        cells.append(
            [
                name,
                f"{row['size']:.2f}",
                *(median_range(row.get(graph)) for graph in ("encoder", "click")),
                f"{row['embedding_snr_db']:.1f} dB",
                f"{row['mask_miou']:.4f}",
                f"{row['lowest_mask_iou']:.3f}",
                f"{row['human']:.4f}" if "human" in row else "",
            ]
        )
    return markdown(head, cells)


def _target_of(row: str) -> int:
    """The place of a contestant's target in the table of targets."""
    makers = {"ONNX": "onnx", "neural-compressor": "onnx", "AI": "tflite", "coremltools": "coreml"}
    first = row.split(maxsplit=1)[0]
    return list(TARGETS).index(makers.get(first, first))
