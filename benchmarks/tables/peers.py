"""Tables of `peers.py`: bundles and frames beside plain exports and torch."""

from __future__ import annotations

from .markdown import bold, failed, markdown, quartiles
from .results import Row

OURS = "sam-edge onnx"
PLAIN = {OURS: "plain onnx", "sam-edge tflite": "plain tflite"}
ENGINES = (("ONNX Runtime", OURS), ("LiteRT", "sam-edge tflite"))
Aim = tuple[str, float, str, str, str]  # what, the aim, the variant, whose figure, and which one it is
# Aims beside plain exports and torch.
PEER_AIMS: tuple[Aim, ...] = (
    ("ViT-B encoder time / plain, ONNX Runtime", 0.7, "vit_b", "sam-edge onnx", "encode / plain"),
    ("ViT-B peak memory / plain, ONNX Runtime", 0.3, "vit_b", "sam-edge onnx", "memory / plain"),
    ("ViT-B encoder time / plain, LiteRT", 0.8, "vit_b", "sam-edge tflite", "encode / plain"),
    ("ViT-B peak memory / plain, LiteRT", 0.4, "vit_b", "sam-edge tflite", "memory / plain"),
    ("TinyViT encoder time / plain, ONNX Runtime", 0.8, "tiny_vit", "sam-edge onnx", "encode / plain"),
    ("TinyViT encoder time / plain, LiteRT", 0.8, "tiny_vit", "sam-edge tflite", "encode / plain"),
    ("nano click, ONNX Runtime, ms", 10, "nano", "sam-edge onnx", "click ms"),
    ("ViT-B click, ONNX Runtime, ms", 25, "vit_b", "sam-edge onnx", "click ms"),
    ("TinyViT click, ONNX Runtime, ms", 25, "tiny_vit", "sam-edge onnx", "click ms"),
    ("nano click / torch", 0.5, "nano", "sam-edge onnx", "click / torch"),
    ("TinyViT click / torch", 0.5, "tiny_vit", "sam-edge onnx", "click / torch"),
    ("ViT-B click / torch", 0.5, "vit_b", "sam-edge onnx", "click / torch"),
)
# Aims of frames: encoder time beside the plain square export, click beside our own square, peak memory beside plain.
FRAME_AIMS: tuple[Aim, ...] = (
    ("ViT-B 3:2 encoder / plain, ONNX Runtime", 0.65, "vit_b", "sam-edge onnx 3:2", "encode / plain"),
    ("ViT-B 3:2 encoder / plain, LiteRT", 0.38, "vit_b", "sam-edge tflite 3:2", "encode / plain"),
    ("ViT-B 16:9 encoder / plain, ONNX Runtime", 0.52, "vit_b", "sam-edge onnx 16:9", "encode / plain"),
    ("ViT-B 16:9 encoder / plain, LiteRT", 0.3, "vit_b", "sam-edge tflite 16:9", "encode / plain"),
    ("TinyViT 3:2 encoder / plain, ONNX Runtime", 0.68, "tiny_vit", "sam-edge onnx 3:2", "encode / plain"),
    ("TinyViT 3:2 encoder / plain, LiteRT", 0.38, "tiny_vit", "sam-edge tflite 3:2", "encode / plain"),
    ("nano 3:2 encoder / plain, ONNX Runtime", 0.72, "nano", "sam-edge onnx 3:2", "encode / plain"),
    *(
        (f"{name} 3:2 click / square, {engine}", 0.75, variant, f"{kind} 3:2", "click / square")
        for name, variant in (("ViT-B", "vit_b"), ("TinyViT", "tiny_vit"), ("nano", "nano"))
        for engine, kind in ENGINES
    ),
    *(
        (f"{name} 16:9 in INT8, encoder / plain fp32, {engine}", aim, variant, f"{kind} 16:9 w8a8", "encode / plain")
        for name, variant, aim in (("ViT-B", "vit_b", 0.33), ("TinyViT", "tiny_vit", 0.35), ("nano", "nano", 0.33))
        for engine, kind in ENGINES
    ),
    ("ViT-B 16:9 peak memory / plain, ONNX Runtime", 0.2, "vit_b", "sam-edge onnx 16:9", "memory / plain"),
)
# Aims of SAM 2.1 and EdgeTAM, beside plain exports of the same modules.
SAM_2_AIMS: tuple[Aim, ...] = (
    *(
        (f"{name} {what} / plain, {engine}", aim, variant, kind, f"{step} / plain")
        for name, variant in (("SAM 2.1 tiny", "sam2.1_hiera_tiny"), ("EdgeTAM", "edgetam"))
        for what, step, onnx, tflite in (
            ("encoder", "encode", 0.75, 0.6),
            ("click", "click", 0.5, 0.5),
            ("peak memory", "memory", 0.6, 0.6),
        )
        for (engine, kind), aim in zip(ENGINES, (onnx, tflite), strict=True)
    ),
    *(
        (f"EdgeTAM in INT8, encoder / fp32, {engine}", 0.55, "edgetam", f"{kind} w8a8", "encode / square")
        for engine, kind in ENGINES
    ),
)


def peers_table(rows: list[Row]) -> str:
    """Bundles beside plain exports and torch: median ms with quartiles, and ratios within a round."""
    times_head = ("encoder ms", "click ms", "encoder / plain", "click / plain", "click / torch")
    head = ("", *times_head, "peak MB", "peak / plain", "MB on disk", "export s", "embedding SNR")
    cells = []
    for row in rows:
        if "error" in row:
            cells.append(failed(row["kind"], row["error"], head))
            continue
        plain = PLAIN.get(_square_of(row) or "")
        torch = "torch" if plain else None
        times = [quartiles(row["steps"][s], 1e3, 1 if row["steps"][s]["p50"] < 0.1 else 0) for s in ("encode", "click")]
        shares = [_ratio(row, step, other) for step, other in (("encode", plain), ("click", plain), ("click", torch))]
        memory = row.get("memory_ratio", {}).get(plain)
        cells.append(
            [
                row["kind"].removesuffix("'s way"),
                *times,
                *shares,
                f"{row['peak_bytes'] / 1e6:,.0f}",
                "" if memory is None else f"{memory:.2f}",
                "" if row["bytes"] is None else f"{row['bytes'] / 1e6:,.0f}",
                "" if row["export_seconds"] is None else f"{row['export_seconds']:.0f}",
                "" if row["snr_db"] is None else f"{row['snr_db']:.0f} dB",
            ]
        )
    return markdown(head, cells)


def frames_table(rows: list[Row]) -> str:
    """Frames beside squares and plain exports: median ms with quartiles, and ratios within a round."""
    head = ("", "encoder ms", "encoder / plain", "encoder / square", "click / square", "peak MB", "peak / plain")
    cells = []
    for row in rows:
        if "error" in row:
            cells.append(failed(row["kind"], row["error"], head))
            continue
        square = _square_of(row)
        plain = PLAIN.get(square or "")
        memory = row.get("memory_ratio", {}).get(plain)
        cells.append(
            [
                row["kind"],
                quartiles(row["steps"]["encode"], 1e3, 1 if row["steps"]["encode"]["p50"] < 0.1 else 0),
                _ratio(row, "encode", plain),
                _ratio(row, "encode", square),
                _ratio(row, "click", square),
                f"{row['peak_bytes'] / 1e6:,.0f}",
                "" if memory is None else f"{memory:.2f}",
            ]
        )
    return markdown(head, cells)


def _square_of(row: Row) -> str | None:
    """The fp32 square of the same target as one of our bundles; None for other contestants."""
    return next((kind for kind in PLAIN if row["kind"].startswith(kind)), None)


def _ratio(row: Row, step: str, other: str | None) -> str:
    found = row["ratio"].get(other, {}).get(step)
    return "" if found is None else quartiles(found)


def peer_aims_table(documents: dict[str, Row], aims: tuple[Aim, ...] = PEER_AIMS) -> str:
    """Aims beside what was measured on each machine; what was missed is bold, what was not measured is empty."""
    rows = []
    for what, aim, variant, kind, figure in aims:
        cells = [what, f"{aim:g}"]
        for document in documents.values():
            row = next((row for row in document["variants"][variant]["rows"] if row["kind"] == kind), None)
            if row is None or "error" in row:
                cells.append("")
                continue
            value, shown = _peer_figure(row, figure)
            cells.append(bold(shown, value <= aim))
        rows.append(cells)
    return markdown(("", "aim", *documents), rows)


def _peer_figure(row: Row, figure: str) -> tuple[float, str]:
    """A figure of a bundle, and how it is shown."""
    if figure == "click ms":
        value = row["steps"]["click"]["p50"] * 1e3
        return value, f"{value:.1f}"
    step, _, other = figure.partition(" / ")
    square = _square_of(row) or row["kind"]
    peer = {"plain": PLAIN.get(square, other), "square": square}.get(other, other)
    if step == "memory":
        return row["memory_ratio"][peer], f"{row['memory_ratio'][peer]:.2f}"
    return row["ratio"][peer][step]["p50"], quartiles(row["ratio"][peer][step])
