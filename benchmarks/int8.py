"""Cost and gain of INT8: size, time and masks of quantized bundles relative to fp32.

    python benchmarks/int8.py                          # the table of results/int8.json
    python benchmarks/int8.py --measure --data DATA    # measure what is missing, then the table
    python benchmarks/int8.py --html int8.html         # the table, and a plot of time, masks and size
    python benchmarks/int8.py --results benchmarks/results/int8_avx2.json    # the same on a processor without VNNI

Bundles are made by `sam-edge export`. Those of a variant and target are timed together, interleaved, so that a busy
machine slows all of them alike. Times are shares of fp32's of the same round: median and quartiles. Core ML packages
run in an evaluator here, whose time says nothing and is left out. Masks are compared with fp32 torch's on the golden
pictures, and for nano with human masks, from boxes on photos of coco/val and ccp/val. Results are written after each
bundle, and a later run resumes where an earlier one stopped.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from shares import share_of_fp32
from tables.int8 import int8_table

from sam_edge.data.sources import open_source
from sam_edge.evaluation.evaluate import evaluate_source
from sam_edge.evaluation.measure import Protocol
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prediction.promptable import AnyCapacity
from sam_edge.quantization.mixed_precision.timing import time_graphs
from sam_edge.reporting.pages import empty_figure
from sam_edge.reporting.versions import commit
from sam_edge.weights.load import find_source, load_sam
from sam_edge_runtime.backends import Backend, load_backend
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.benchmark.rounds import Rounds
from sam_edge_runtime.bundle.bundle import GOLDEN_FILE, Bundle
from sam_edge_runtime.decoding import Capacity

RESULTS = Path(__file__).parent / "results" / "int8.json"
IDENTITY = ("processor", "instructions", "cores")  # of a machine: relative times depend on them
TARGETS, RECIPES = ("onnx", "tflite", "coreml"), ("w8", "w8a8", "auto")
ROUNDS, SECONDS = 15, 40.0  # largest number of timing rounds, and seconds for each bundle after which they end
HUMAN = {"coco": "coco/val.tar", "ccp": "ccp/val.tar"}
HUMAN_PHOTOS = 20  # of each source
CONSOLE = Console(stderr=True, markup=False, highlight=False)
Row = dict[str, Any]


def main() -> None:
    """Measure what is wanted, and print the table."""
    arguments = _arguments()
    results: Path = arguments.results
    document = json.loads(results.read_text("utf-8")) if results.is_file() else {"bundles": []}
    rows: list[Row] = document["bundles"]
    if arguments.measure:
        here = machine()
        other = {key: each for key in IDENTITY if (each := document.get("machine", here).get(key)) != here[key]}
        if other:
            sys.exit(f"{results} was measured on another machine ({other}): name a new file, --results FILE")
        for variant, target in product(arguments.variants, arguments.targets):
            for _ in _measure(variant, target, arguments, rows):
                document = {"machine": here, "commit": commit(), "bundles": rows}
                results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(int8_table(rows))
    if arguments.html:
        arguments.html.write_text(page(document), encoding="utf-8")


def page(document: dict[str, Any]) -> str:
    """The table and a plot as one HTML file."""
    picture = base64.b64encode(plot(document["bundles"])).decode()
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in int8_table(document["bundles"]).splitlines()
    ]
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in (cells[0], *cells[2:]))
    about = f"{document['machine']['processor']}, {document['machine']['cores']} cores; commit {document['commit']}"
    style = "body{font:15px sans-serif;margin:2em}td{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}"
    return (
        f"<!doctype html><meta charset=utf-8><title>INT8</title><style>{style}</style><h1>INT8 relative to fp32</h1>"
        f"<p>{about}</p><img alt='time, masks and size' src='data:image/png;base64,{picture}'>"
        f"<table>{body}</table>\n"
    )


def plot(rows: list[Row]) -> bytes:
    """A PNG: time of the encoder against mask mIoU; the area of a dot is the bundle's size."""
    figure = empty_figure(7.5, 4.5, dpi=110)
    axes = figure.add_subplot()
    colours = dict(zip(TARGETS, ("tab:blue", "tab:orange", "tab:green"), strict=True))
    shapes = dict(zip(dict.fromkeys(row["variant"] for row in rows), "os^D", strict=False))
    for row in rows:
        if "error" in row or row.get("encoder") is None:
            continue
        place = row["encoder"]["median"], row["mask_miou"]
        axes.scatter(
            *place, s=700 * row["size"], c=colours[row["target"]], marker=shapes[row["variant"]], alpha=0.55, lw=0
        )
        side = -1 if row["target"] == "onnx" else 1  # above to the left, or below to the right
        axes.annotate(
            row["recipe"],
            place,
            xytext=(14 * side, -3 - 11 * side),
            textcoords="offset points",
            fontsize=8,
            color=colours[row["target"]],
            ha="right" if side < 0 else "left",
        )
    keys = [
        axes.scatter([], [], c=colour, marker="o", label=target)
        for target, colour in colours.items()
        if any(row["target"] == target and row.get("encoder") for row in rows)
    ]
    keys += [axes.scatter([], [], c="grey", marker=shape, label=variant) for variant, shape in shapes.items()]
    axes.legend(handles=keys, loc="lower right", fontsize=8)
    axes.margins(0.15)
    axes.axhline(0.98, color="grey", lw=0.8, ls=":")
    axes.axvline(1.0, color="grey", lw=0.8, ls=":")
    axes.set_xlabel("image encoder's time relative to fp32")
    axes.set_ylabel("mask mIoU with fp32 torch")
    axes.set_title("Left is faster, up is more accurate, small dots are small files", fontsize=10)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _measure(variant: str, target: str, arguments: argparse.Namespace, rows: list[Row]) -> Iterator[None]:
    """Add the missing rows of a variant and target; yields after each."""
    known = {(row["variant"], row["target"], row["recipe"]) for row in rows}
    wanted = [recipe for recipe in arguments.recipes if (variant, target, recipe) not in known]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        fp32, row = _export(variant, target, "fp32", arguments, Path(folder) / "fp32")
        if fp32 is None:
            sys.exit(f"{variant} {target} fp32: {row['error']}")
        made: dict[str, Bundle] = {}
        for recipe in wanted:
            CONSOLE.print(f"{variant} {target} {recipe}")
            bundle, row = _export(variant, target, recipe, arguments, Path(folder) / recipe)
            rows.append(row)
            if bundle is not None:
                made[recipe] = bundle
                row["bytes"], row["size"] = bundle.size, bundle.size / fp32.size
                row["graphs"] = _graphs(bundle) / _graphs(fp32)
                if variant == "nano" and arguments.data is not None:
                    row["human"] = _human(bundle, arguments.data)
            yield
        if target != "coreml":
            times = _times({"fp32": fp32, **made})
            for row in rows:
                if (row["variant"], row["target"]) == (variant, target) and row["recipe"] in made:
                    row |= {graph: times[row["recipe"], graph] for graph in ("encoder", "decoder")}
        yield


def _graphs(bundle: Bundle) -> int:
    """Bytes of a bundle without golden.npz."""
    return bundle.size - (bundle.root / GOLDEN_FILE).stat().st_size


def _export(
    variant: str, target: str, recipe: str, arguments: argparse.Namespace, out: Path
) -> tuple[Bundle | None, Row]:
    command = [sys.executable, "-m", "sam_edge", "export", "--model", variant, "--target", target, "--out", str(out)]
    command += ["--precision", recipe, "--budget", arguments.budget, "--keep"]
    if recipe != "fp32" and arguments.calibration is not None:
        command += ["--calibration", arguments.calibration, "--photos", str(arguments.photos)]
    if variant != "nano":
        command += ["--checkpoint", "random:0"]
    begun = time.perf_counter()
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    row: Row = {"variant": variant, "target": target, "recipe": recipe, "seconds": time.perf_counter() - begun}
    if not out.is_dir():
        return None, {**row, "error": said.stderr.strip().splitlines()[-1]}
    report = json.loads((out / "report.json").read_text("utf-8"))
    search = report.get("quantization", {}).get("search")
    if search:
        schemes = [block["scheme"] for block in search["blocks"].values()]
        row["search"] = {"tried": len(search["tried"]), "complete": search["complete"]}
        row["search"] |= {scheme: schemes.count(scheme) for scheme in sorted(set(schemes))}
    return Bundle.open(out), {**row, **report["figures"], "missed": report["missed"]}


def _times(bundles: dict[str, Bundle]) -> dict[tuple[str, str], dict[str, float]]:
    """By recipe and graph: the time as a share of fp32's."""
    backends: dict[str, Backend] = {name: load_backend(bundle) for name, bundle in bundles.items()}
    manifest = bundles["fp32"].manifest
    side = manifest.input_side
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, side, side)).astype(np.float32)
    taken = time_graphs(backends, image, manifest, Rounds(ROUNDS, warm_up=1, budget=SECONDS * len(backends)))
    return {(name, graph): share_of_fp32(times, taken["fp32", graph]) for (name, graph), times in taken.items()}


def _human(bundle: Bundle, data: Path) -> dict[str, dict[str, float]]:
    """MIoU of masks from boxes with human masks, of fp32 torch (before) and of the bundle (after)."""
    sam = load_sam("nano", find_source("nano", None), bundle.manifest.input_side).sam
    subjects: dict[str, tuple[Backend, Capacity]] = {
        "before": (TorchBackend(sam), AnyCapacity.of(sam)),
        "after": (load_backend(bundle), bundle.manifest),
    }
    protocol = Protocol(clicks=1, grabcut=False)
    return {
        name: {
            moment: evaluate_source(
                backend, capacity, open_source(str(data / path)), protocol, limit=HUMAN_PHOTOS
            ).box.single
            for moment, (backend, capacity) in subjects.items()
        }
        for name, path in HUMAN.items()
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the measurements")
    parser.add_argument("--measure", action="store_true", help="measure what the file of results does not contain")
    parser.add_argument("--variants", nargs="+", default=["nano"])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--calibration", help="see `sam-edge export`")
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--budget", default="2m", help="time for the search of `auto`")
    parser.add_argument("--data", type=Path, help="folder with coco/val.tar and ccp/val.tar, for nano")
    parser.add_argument("--html", type=Path, help="also write the table and a plot as an HTML page")
    return parser.parse_args()


if __name__ == "__main__":
    main()
