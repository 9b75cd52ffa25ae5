"""Tables with figures: Markdown out of `results/*.json`, and the documents that show them.

    python benchmarks/tables.py                # fill every table of README.md and docs/
    python benchmarks/tables.py peers-nano     # print tables instead

A document holds a table between two markers, `<!-- table: NAME -->` and `<!-- end -->`. What stands between them is
replaced, so a figure is never typed by hand, and `tests/docs/test_tables.py` fails where a document differs. The
benchmarks print their results with the functions of this module.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any
from urllib.parse import urlsplit

from sam_edge.weights.catalogue import RELEASES, SHIPPED
from sam_edge_runtime.bundle.targets import TARGETS

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]

REFERENCE = "segment_anything"  # of automatic masks
VARIANTS = ("nano", "tiny_vit", "vit_b", "vit_l", "vit_h")
OURS = "sam-edge onnx"
PLAIN = {OURS: "plain onnx", "sam-edge tflite": "plain tflite"}
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
# Aims beside plain exports and torch: what, the aim, the variant, whose figure, and which one it is.
PEER_AIMS: tuple[tuple[str, float, str, str, str], ...] = (
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
# Aims in the browser: shares of the native times with as many threads, and what a person meets on the served page.
WEB_AIMS = {"encode": 3.0, "click": 2.5}
FIRST_MASK_AIM, HOVER_AIM, PAGE_AIM = 4.0, 20.0, 300e3  # seconds, masks a second, bytes compressed


# Parts that several tables share.


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose first column is aligned to the left and whose others are to the right."""
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines)


def _failed(name: str, error: str, head: Sequence[str]) -> list[str]:
    """A row of a run that gave no figures."""
    return [name, error, *[""] * (len(head) - 2)]


def _bold(text: str, met: bool) -> str:
    return text if met else f"**{text}**"


def _quartiles(found: dict[str, float], scale: float = 1.0, digits: int = 2) -> str:
    return "{:,.{d}f} ({:,.{d}f} to {:,.{d}f})".format(*(found[q] * scale for q in ("p50", "q25", "q75")), d=digits)


# A table for each result.


def exports_table(rows: list[Row]) -> str:
    """What each export costs, and how near its masks are to fp32 torch's."""
    figures_head = ("embedding SNR", "mask mIoU", "boundary IoU", "IoU prediction error", "lowest mask IoU")
    head = ("export", *figures_head, "MB", "seconds", "peak GB")
    cells = []
    for row in rows:
        name = f"{row['variant']} {row['target']} {row['precision']}" + (" ane" if row["graph"] == "ane" else "")
        cost = [f"{row['seconds']:,.0f}", f"{row['peak_bytes'] / 1e9:.1f}"]
        if "error" in row:
            cells.append([*_failed(name, row["error"], head)[:-2], *cost])
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


def peers_table(rows: list[Row]) -> str:
    """Bundles beside plain exports and torch: median ms with quartiles, and ratios within a round."""
    times_head = ("encoder ms", "click ms", "encoder / plain", "click / plain", "click / torch")
    head = ("", *times_head, "peak MB", "peak / plain", "MB on disk", "export s", "embedding SNR")
    cells = []
    for row in rows:
        if "error" in row:
            cells.append(_failed(row["kind"], row["error"], head))
            continue
        plain = PLAIN.get(row["kind"])
        torch = "torch" if plain else None
        times = [
            _quartiles(row["steps"][s], 1e3, 1 if row["steps"][s]["p50"] < 0.1 else 0) for s in ("encode", "click")
        ]
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
            cells.append(_failed(row["kind"], row["error"], head))
            continue
        square = next((kind for kind in PLAIN if row["kind"].startswith(kind)), None)
        plain = None if square is None else PLAIN[square]
        memory = row.get("memory_ratio", {}).get(plain)
        cells.append(
            [
                row["kind"],
                _quartiles(row["steps"]["encode"], 1e3, 1 if row["steps"]["encode"]["p50"] < 0.1 else 0),
                _ratio(row, "encode", plain),
                _ratio(row, "encode", square),
                _ratio(row, "click", square),
                f"{row['peak_bytes'] / 1e6:,.0f}",
                "" if memory is None else f"{memory:.2f}",
            ]
        )
    return markdown(head, cells)


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


def _ratio(row: Row, step: str, other: str | None) -> str:
    found = row["ratio"].get(other, {}).get(step)
    return "" if found is None else _quartiles(found)


def peer_aims_table(documents: dict[str, Row]) -> str:
    """Aims beside what was measured on each machine; what was missed is bold."""
    rows = []
    for what, aim, variant, kind, figure in PEER_AIMS:
        cells = [what, f"{aim:g}"]
        for document in documents.values():
            row = next(row for row in document["variants"][variant]["rows"] if row["kind"] == kind)
            value, shown = _peer_figure(row, figure)
            cells.append(_bold(shown, value <= aim))
        rows.append(cells)
    return markdown(("", "aim", *documents), rows)


def _peer_figure(row: Row, figure: str) -> tuple[float, str]:
    """A figure of a bundle, and how it is shown."""
    if figure == "click ms":
        value = row["steps"]["click"]["p50"] * 1e3
        return value, f"{value:.1f}"
    step, _, other = figure.partition(" / ")
    peer = PLAIN[row["kind"]] if other == "plain" else other
    if step == "memory":
        return row["memory_ratio"][peer], f"{row['memory_ratio'][peer]:.2f}"
    return row["ratio"][peer][step]["p50"], _quartiles(row["ratio"][peer][step])


def int8_table(rows: list[Row]) -> str:
    """Size, time and masks of quantized bundles beside fp32's."""
    cost_head = ("MB", "MB / fp32", "graphs / fp32", "encoder time / fp32", "decoder time / fp32")
    masks_head = ("embedding SNR", "mask mIoU", "boundary IoU", "lowest mask IoU", "human masks: COCO", "CCP")
    head = ("bundle", *cost_head, *masks_head, "export s")
    cells = []
    for row in rows:
        name = f"{row['variant']} {row['target']} {row['recipe']}"
        if "error" in row:
            cells.append(_failed(name, row["error"], head))
            continue
        human = [row.get("human", {}).get(data) for data in ("coco", "ccp")]
        cells.append(
            [
                name,
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['size']:.2f}",
                f"{row['graphs']:.2f}" if "graphs" in row else "",
                *(_share(row.get(graph)) for graph in ("encoder", "decoder")),
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
            _share(row.get("encoder")),
            f"{row['embedding_snr_db']:.1f} dB",
            f"{row['mask_miou']:.4f}",
        ]
        for row in rows
    ]
    return markdown(head, cells)


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
            cells.append(_failed(name, row["error"], head))
            continue
        cells.append(
            [
                name,
                f"{row['size']:.2f}",
                *(_share(row.get(graph)) for graph in ("encoder", "click")),
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


def _share(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def int8_aims_table(rows: list[Row]) -> str:
    """Aims of the search beside what `auto` and `w8a8` reach; what was missed is bold."""
    found = {(row["variant"], row["target"], row["recipe"]): row for row in rows}
    cells = []
    for (variant, target), (time_aim, size_aim) in INT8_AIMS.items():
        auto, w8a8 = (found.get((variant, target, recipe)) for recipe in ("auto", "w8a8"))
        line = [f"{variant} {target}", "" if time_aim is None else f"{time_aim:g}"]
        for row in (auto, w8a8):
            share = None if row is None or "encoder" not in row else round(row["encoder"]["median"], 2)
            line.append("" if share is None or time_aim is None else _bold(f"{share:.2f}", share <= time_aim))
        # Masks of seeded weights are noise, so only nano's are judged.
        judged = w8a8["mask_miou"] if w8a8 is not None and variant == "nano" else None
        line.append("" if judged is None else _bold(f"{judged:.3f}", judged >= MASK_BOUND))
        smallest = auto or w8a8
        size = None if smallest is None else round(smallest["size"], 2)
        line += [f"{size_aim:g}", "" if size is None else _bold(f"{size:.2f}", size <= size_aim)]
        line.append("" if smallest is None else f"{smallest['graphs']:.2f}")
        cells.append(line)
    head = ("", "encoder time: aim", "`auto`", "`w8a8`", "`w8a8` mask mIoU", "size: aim", "bundle", "graphs alone")
    return markdown(head, cells)


def peak_line(document: Row) -> str:
    """The rate of this machine's fastest large product."""
    peak = document["peak"]
    rates = ", ".join(f"{max(rate.values()) / 1e9:.0f} GFLOP/s with {n} thread(s)" for n, rate in peak.items())
    libraries = peak[str(max(map(int, peak)))]
    return f"{rates} ({', '.join(f'{library} {rate / 1e9:.0f}' for library, rate in libraries.items())})"


def scaling_table(document: Row, graph: str, threads: int | None = None) -> str:
    """Time and memory of a graph by input side or number of prompts; with every core where `threads` is None."""
    peak = document["peak"]
    threads = threads or max(map(int, peak))
    head = ("", "side", "prompts", "ms", "ms a prompt", "GFLOP", "ms at the peak", "share of the peak", "peak MB")
    cells = []
    for row in document["rows"]:
        if (row["graph"], row["threads"]) != (graph, threads):
            continue
        milliseconds = row["seconds"]["p50"] * 1e3
        limit = row["flop"] / max(peak[str(threads)].values()) * 1e3
        line = [row["variant"], row["side"], row["prompts"], f"{milliseconds:,.1f}"]
        line += [f"{milliseconds / row['prompts']:,.1f}", f"{row['flop'] / 1e9:,.1f}", f"{limit:,.1f}"]
        cells.append([*line, f"{limit / milliseconds:.0%}", f"{row['peak_bytes'] / 1e6:,.0f}"])
    return markdown(head, cells)


def install_table(installs: list[Row]) -> str:
    """What a fresh environment takes, and how long the runtime takes to import."""
    head = ("fresh environment", "MB", "compiled, MB", "torch", "`import sam_edge_runtime`, ms", "`pass`, ms")
    rows = [
        [
            f"`sam-edge[{each['extra']}]`",
            *(f"{each[what] / 1e6:.0f}" for what in ("bytes", "compiled_bytes")),
            "yes" if each["torch"] else "no",
            *(_quartiles(each[what], digits=0) for what in ("import_ms", "pass_ms", "difference_ms")),
        ]
        for each in installs
    ]
    return markdown((*head, "difference, ms"), rows)


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


def distillation_table(rows: list[Row]) -> str:
    """MIoU of students after each plan."""
    figures = ("box", "1 clicks", "3 clicks")
    cells = [[row["student"], row["plan"], *(f"{row[figure]:.3f}" for figure in figures)] for row in rows]
    return markdown(("student", "plan", "box", "1 click", "3 clicks"), cells)


def models_table(rows: list[Row]) -> str:
    """Size, licence and origin of every model's weights."""
    head = ("model", "family", "parameters, M", "file, MB", "licence", "from")
    cells = []
    for row in rows:
        variant = row["variant"]
        if variant in SHIPPED:
            shipped = SHIPPED[variant]
            about = [shipped.family, f"{shipped.path.stat().st_size / 1e6:,.0f}", shipped.licence, "in the package"]
        elif variant in RELEASES:
            release = RELEASES[variant]
            about = [release.family, f"{release.about_bytes / 1e6:,.0f}", release.licence]
            about.append(f"[{urlsplit(release.url).hostname}]({release.url})")
        else:  # pruned ViT-Bs, whose files are as different as their makers
            about = ["SlimSAM", "", "its file's", "your file"]
        cells.append([f"`{variant}`", about[0], f"{row['parameters'] / 1e6:,.1f}", *about[1:]])
    return markdown(head, cells)


def models_cost_table(rows: list[Row], measured: dict[str, Row]) -> str:
    """Multiplications of every model, and median ms of its ONNX bundle where a machine measured it.

    Args:
        rows: of `results/models.json`.
        measured: by the machine's name, a document of `peers.py`.
    """
    head = ["model", "side", "encoder, GMAC", "click, GMAC"]
    head += [f"{step}, ms, {name}" for name in measured for step in ("encoder", "click")]
    cells = []
    for row in rows:
        line = [f"`{row['variant']}`", row["side"], f"{row['encoder'] / 1e9:,.1f}", f"{row['click'] / 1e9:,.2f}"]
        for document in measured.values():
            found = document["variants"].get(row["variant"], {"rows": []})["rows"]
            steps = next((each["steps"] for each in found if each["kind"] == OURS and "steps" in each), None)
            for step in ("encode", "click"):
                line.append("" if steps is None else _milliseconds(steps[step]["p50"]))
        cells.append(line)
    return markdown(head, cells)


def web_table(rows: list[Row]) -> str:
    """Chromium beside native ONNX Runtime with nano: median ms with quartiles, and ratios within a round."""
    head = ["nano", "threads"]
    for step, name in (("encode", "encoder"), ("click", "click")):
        head += [f"{name} ms: browser", "native", f"browser / native, aim {WEB_AIMS[step]:.1f}"]
    cells = []
    for row in rows:
        line = [row["precision"], row["threads"]]
        for step, aim in WEB_AIMS.items():
            line += [_quartiles(row[step][where], 1e3, 1) for where in ("browser", "native")]
            line.append(_bold(_quartiles(row[step]["ratio"]), round(row[step]["ratio"]["p50"], 2) <= aim))
        cells.append([*line, _quartiles(row["photo"]["ratio"])])
    return markdown((*head, "photo to mask, browser / native"), cells)


def web_page_table(page: Row) -> str:
    """What a person meets on the page of `sam-edge serve`, beside the aims; what was missed is bold."""
    cells: list[list[object]] = []
    for photo in page["photos"]:
        size, mask, hover = f"{photo['width']} x {photo['height']}", photo["cold"]["mask"], photo["hover"]
        cells += [
            [
                f"first mask, photo of {size}, s",
                f"{FIRST_MASK_AIM:g}",
                _bold(_quartiles(mask), round(mask["p50"], 2) <= FIRST_MASK_AIM),
            ],
            ["the same on the next visit, s", "", _quartiles(photo["again"]["mask"])],
            [
                "masks a second under a moving pointer",
                f"{HOVER_AIM:g}",
                _bold(_quartiles(hover, digits=1), round(hover["p50"], 1) >= HOVER_AIM),
            ],
        ]
    engine = [row for row in page["wire"] if row["path"].endswith(".wasm")]
    bundle = [row for row in page["wire"] if row["path"].startswith("/bundles/")]
    code = [row for row in page["wire"] if row not in engine and row not in bundle and "/samples/" not in row["path"]]
    sent, packed = (sum(row[what] or row["bytes"] for row in code) for what in ("bytes", "gzip"))
    cells.append(
        [
            "page without the engine's WASM, kB (with gzip)",
            f"{PAGE_AIM / 1e3:g}",
            _bold(f"{sent / 1e3:.0f} ({packed / 1e3:.0f})", packed <= PAGE_AIM),
        ]
    )
    smallest = min(page["engines"], key=lambda name: page["engines"][name])
    for row in engine:
        # Vite's names have a hash of the content.
        name = row["path"].rsplit("/", 1)[-1].rpartition("-")[0] + ".wasm"
        what = f"engine's WASM, {name.removesuffix('.wasm')}, MB (with gzip)"
        cells.append(
            [what, "smallest build", _bold(f"{row['bytes'] / 1e6:.1f} ({row['gzip'] / 1e6:.1f})", name == smallest)]
        )
    cells.append(["nano's bundle in fp32, MB", "", f"{sum(row['bytes'] for row in bundle) / 1e6:.1f}"])
    return markdown(("", "aim", "measured"), cells)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.1f}"


def read(name: str) -> Row:
    """The result file `results/NAME.json`."""
    document: Row = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return document


def _of_web(table: Callable[[Row], str]) -> str:
    """A table of `results/web.json`; where that is not there yet, what makes it."""
    if not (RESULTS / "web.json").is_file():
        return "Not measured yet: `python benchmarks/web.py --measure`."
    return table(read("web"))


def _exports() -> list[Row]:
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


TABLES: dict[str, Callable[[], str]] = {
    "coverage": lambda: coverage_table(_exports(), read("int8")["bundles"]),
    "exports": lambda: exports_table(_exports()),
    **{
        f"peers-{variant}": partial(lambda name: peers_table(read("peers")["variants"][name]["rows"]), variant)
        for variant in ("nano", "tiny_vit", "vit_b")
    },
    **{
        f"frames-{variant}": partial(lambda name: frames_table(read("frames")["variants"][name]["rows"]), variant)
        for variant in ("nano", "tiny_vit", "vit_b")
    },
    "frame-masks": lambda: frame_masks_table(read("frame_masks")["rows"]),
    "peers-aims": lambda: peer_aims_table({"Zen 5": read("peers"), "Zen 3": read("peers_avx2")}),
    "int8": lambda: int8_table(read("int8")["bundles"]),
    "int8-avx2": lambda: int8_short_table(read("int8_avx2")["bundles"]),
    "int8-aims": lambda: int8_aims_table(read("int8")["bundles"]),
    "int8-peers": lambda: int8_peers_table(read("int8_peers")["rows"]),
    "qnn-htp": lambda: qnn_table(read("qnn_htp")["bundles"]),
    "scaling-peak": lambda: peak_line(read("scaling")),
    "scaling-encoder": lambda: scaling_table(read("scaling"), "encoder"),
    "scaling-decoder": lambda: scaling_table(read("scaling"), "decoder"),
    "scaling-encoder-one-thread": lambda: scaling_table(read("scaling"), "encoder", 1),
    "scaling-decoder-one-thread": lambda: scaling_table(read("scaling"), "decoder", 1),
    "models": lambda: models_table(read("models")["models"]),
    "models-cost": lambda: models_cost_table(
        read("models")["models"], {"Zen 5": read("peers"), "Zen 3": read("peers_avx2")}
    ),
    "install": lambda: install_table(read("install")["installs"]),
    "automatic": lambda: automatic_table(read("automatic")["runs"]),
    "web": lambda: _of_web(lambda document: web_table(document["rows"])),
    "web-page": lambda: _of_web(lambda document: web_page_table(document["page"])),
    "distillation": lambda: distillation_table(read("distillation_nano_teacher")["rows"]),
}


# The documents.

_MARKED = re.compile(r"(<!-- table: (?P<name>[^ ]*) -->\n)(?P<table>.*?)(<!-- end -->)", re.DOTALL)


def documents() -> list[Path]:
    """README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """A document with every marked table made anew.

    Raises:
        ValueError: a table that does not exist, or a marker without its end.
    """
    if text.count("<!-- table: ") != len(_MARKED.findall(text)):
        raise ValueError("a marker <!-- table: NAME --> without its <!-- end -->")

    def table(match: re.Match[str]) -> str:
        if match["name"] not in TABLES:
            raise ValueError(f"no table called {match['name']!r}: choose one of {', '.join(TABLES)}")
        return f"{match[1]}\n{TABLES[match['name']]()}\n\n{match[4]}"

    return _MARKED.sub(table, text)


def main(names: list[str]) -> None:
    """Print the named tables, or fill all documents."""
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        sys.exit(f"no table called {unknown[0]!r}: choose one of {', '.join(TABLES)}")
    if names:
        print("\n\n".join(TABLES[name]() for name in names))
        return
    for path in documents():
        before = path.read_text("utf-8")
        try:
            after = filled(before)
        except ValueError as error:
            sys.exit(f"{path}: {error}")
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
