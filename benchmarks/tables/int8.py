"""Tables of `int8.py`."""

from __future__ import annotations

from .markdown import bold, failed, markdown, median_range
from .results import Row

MASK_BOUND = 0.98  # of `--precision auto`
# Aims of `--precision auto`, as shares of fp32: the encoder's time, the bundle's size.
INT8_AIMS: dict[tuple[str, str], tuple[float | None, float]] = {
    ("nano", "onnx"): (0.6, 0.3),
    ("nano", "tflite"): (0.7, 0.3),
    ("nano", "coreml"): (None, 0.3),
    ("tiny_vit", "onnx"): (0.6, 0.3),
    ("tiny_vit", "tflite"): (0.5, 0.3),
    ("tiny_vit", "coreml"): (None, 0.3),
    ("vit_b", "onnx"): (0.5, 0.3),
    ("vit_b", "tflite"): (0.5, 0.3),
    ("vit_b", "coreml"): (None, 0.3),
}


def int8_table(rows: list[Row]) -> str:
    """Size, time and masks of quantized bundles beside fp32's."""
    cost_head = ("MB", "MB / fp32", "graphs / fp32", "encoder time / fp32", "decoder time / fp32")
    masks_head = ("embedding SNR", "mask mIoU", "boundary IoU", "lowest mask IoU", "human masks: COCO", "CCP")
    head = ("bundle", *cost_head, *masks_head, "export s")
    cells = []
    for row in rows:
        name = f"{row['variant']} {row['target']} {row['recipe']}"
        if "error" in row:
            cells.append(failed(name, row["error"], head))
            continue
        human = [row.get("human", {}).get(data) for data in ("coco", "ccp")]
        cells.append(
            [
                name,
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['size']:.2f}",
                f"{row['graphs']:.2f}" if "graphs" in row else "",
                *(median_range(row.get(graph)) for graph in ("encoder", "decoder")),
                f"{row['embedding_snr_db']:.1f} dB",
                f"{row['mask_miou']:.4f}",
                f"{row['boundary_miou']:.4f}",
                f"{row['worst']['mask_iou']:.3f}",
                *("" if each is None else f"{each['before']:.4f} → {each['after']:.4f}" for each in human),
                f"{row['seconds']:.0f}",
            ]
        )
    return markdown(head, cells)


def int8_short_table(rows: list[Row]) -> str:
    """The four figures of `int8_table` that tell most."""
    head = ("bundle", "MB / fp32", "encoder time / fp32", "embedding SNR", "mask mIoU")
    cells = [
        [
            f"{row['variant']} {row['target']} {row['recipe']}",
            f"{row['size']:.2f}",
            median_range(row.get("encoder")),
            f"{row['embedding_snr_db']:.1f} dB",
            f"{row['mask_miou']:.4f}",
        ]
        for row in rows
    ]
    return markdown(head, cells)


def int8_aims_table(rows: list[Row]) -> str:
    """Aims of the search beside what `auto` and `w8a8` reach; what was missed is bold."""
    found = {(row["variant"], row["target"], row["recipe"]): row for row in rows}
    cells = []
    for (variant, target), (time_aim, size_aim) in INT8_AIMS.items():
        auto, w8a8 = (found.get((variant, target, recipe)) for recipe in ("auto", "w8a8"))
        line = [f"{variant} {target}", "" if time_aim is None else f"{time_aim:g}"]
        for row in (auto, w8a8):
            share = None if row is None or "encoder" not in row else round(row["encoder"]["median"], 2)
            line.append("" if share is None or time_aim is None else bold(f"{share:.2f}", share <= time_aim))
        # Masks of seeded weights are noise, so only nano's are judged.
        judged = w8a8["mask_miou"] if w8a8 is not None and variant == "nano" else None
        line.append("" if judged is None else bold(f"{judged:.3f}", judged >= MASK_BOUND))
        smallest = auto or w8a8
        size = None if smallest is None else round(smallest["size"], 2)
        line += [f"{size_aim:g}", "" if size is None else bold(f"{size:.2f}", size <= size_aim)]
        line.append("" if smallest is None else f"{smallest['graphs']:.2f}")
        cells.append(line)
    head = ("", "encoder time: aim", "`auto`", "`w8a8`", "`w8a8` mask mIoU", "size: aim", "bundle", "graphs alone")
    return markdown(head, cells)
