"""Tables of `exports.py`."""

from __future__ import annotations

from sam_edge_runtime.bundle.targets import TARGETS

from .markdown import failed, markdown
from .results import VARIANTS, Row, read


def exports_table(rows: list[Row]) -> str:
    """What each export costs, and how near its masks are to fp32 torch's."""
    figures_head = ("embedding SNR", "mask mIoU", "boundary IoU", "IoU prediction error", "lowest mask IoU")
    head = ("export", *figures_head, "MB", "seconds", "peak GB")
    cells = []
    for row in rows:
        name = f"{row['variant']} {row['target']} {row['precision']}" + (" ane" if row["graph"] == "ane" else "")
        cost = [f"{row['seconds']:,.0f}", f"{row['peak_bytes'] / 1e9:.1f}"]
        if "error" in row:
            cells.append([*failed(name, row["error"], head)[:-2], *cost])
            continue
        figures = [f"{row['embedding_snr_db']:.1f} dB", f"{row['mask_miou']:.6f}", f"{row['boundary_miou']:.6f}"]
        figures += [f"{row['iou_prediction_error']:.1e}", f"{row['worst']['mask_iou']:.6f}"]
        cells.append([name, *figures, f"{row['bytes'] / 1e6:,.0f}", *cost])
    return markdown(head, cells)


def coverage_table(exports: list[Row], quantized: list[Row]) -> str:
    """Which variant, target and precision was exported and verified, and which of them missed a bound."""
    precisions = ("fp32", "fp16", "mixed", "w8", "w8a8", "auto")
    found = {(row["variant"], row["target"], row.get("precision", row.get("recipe"))): row for row in exports}
    found |= {(row["variant"], row["target"], row["recipe"]): row for row in quantized}

    def cell(variant: str, target: str, precision: str) -> str:
        if precision not in (*TARGETS[target].precisions, *TARGETS[target].schemes, "auto"):
            return "–"
        row = found.get((variant, target, precision))
        if row is None:
            return ""
        return "error" if "error" in row else "missed" if row["missed"] else "✓"

    rows = [
        [f"{variant} {target}", *(cell(variant, target, precision) for precision in precisions)]
        for variant in VARIANTS
        for target in TARGETS
        if any((variant, target, precision) in found for precision in precisions)
    ]
    return markdown(("", *precisions), rows)


def all_exports() -> list[Row]:
    """All exports, by variant, precision and target."""
    rows = [row for name in ("exports", "exports_large") for row in read(name)["exports"]]
    precisions = ("fp32", "fp16", "mixed")
    return sorted(
        rows,
        key=lambda row: (
            VARIANTS.index(row["variant"]),
            precisions.index(row["precision"]),
            tuple(TARGETS).index(row["target"]),
        ),
    )
