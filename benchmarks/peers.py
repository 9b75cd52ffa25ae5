"""sam-edge and the usual alternatives in one run: time, peak memory, size and export time.

    python benchmarks/peers.py                                   # the tables of results/peers.json
    python benchmarks/peers.py --measure [nano tiny_vit ..]   # export everything, measure interleaved, then the tables
    python benchmarks/peers.py --measure --frames --results benchmarks/results/frames.json   # frames beside squares

Contestants, all with the same seeded weights (nano with its own), each in a process of its own:

    sam-edge onnx, tflite      this project's bundles in its runtime
    the same with 3:2 or 16:9  bundles with a frame of that shape, on a photo of it
    the same with w8a8         the bundle in INT8, calibrated on the photos of --calibration
    plain onnx                 `torch.onnx.export` of the unchanged modules, in ONNX Runtime with default options
    plain tflite               `litert_torch.convert` of the same image encoder, in LiteRT with default options
    samexporter's way          plain onnx, with the decoder quantized to QUInt8 per tensor by `quantize_dynamic`
    torch                      segment_anything's predictor in eager torch

For vit_b the modules are those of PyPI's segment-anything 1.0: the encoder, and `SamOnnxModel`, which scales masks to
the photo's size inside the graph. The others are not in that package, so their plain exports are of this project's
modules, unchanged, and `torch` runs these too; those of SAM 2.1 and EdgeTAM equal the official code's outputs. Steps:
`encode`; `click` is the decoder and the mask at the size of a 1500 x 2250 photo, or of one of 16:9 with as many pixels.
Ratios are taken within a round. Embeddings are compared with torch's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from peer_inputs import SAM_2_VARIANTS, SEED, draw_photo
from rich.console import Console
from tables.peers import frames_table, peers_table

from sam_edge.reporting.versions import commit, tool_versions
from sam_edge_runtime.benchmark.clock import timed
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.benchmark.photo import SIZE
from sam_edge_runtime.benchmark.process import Worker
from sam_edge_runtime.benchmark.rounds import Rounds, interleave
from sam_edge_runtime.benchmark.spread import ratios, spread
from sam_edge_runtime.benchmark.worker import END, serve
from sam_edge_runtime.system.memory import peak_bytes, reset_peak

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "peers.json"
VARIANTS = ("nano", "tiny_vit", "vit_b", *SAM_2_VARIANTS)
OURS_ONNX, OURS_TFLITE = "sam-edge onnx", "sam-edge tflite"
PLAIN_ONNX, PLAIN_TFLITE, DYNAMIC, TORCH = "plain onnx", "plain tflite", "samexporter's way", "torch"
INT8 = "w8a8"
KINDS = (
    *(OURS_ONNX, f"{OURS_ONNX} {INT8}", PLAIN_ONNX, DYNAMIC),
    *(OURS_TFLITE, f"{OURS_TFLITE} {INT8}", PLAIN_TFLITE, TORCH),
)
FRAMES = {"3:2": SIZE, "16:9": (1378, 2450)}  # (H, W) of the photo
FRAME_KINDS = (
    OURS_ONNX,
    *(f"{OURS_ONNX} {frame}" for frame in FRAMES),
    f"{OURS_ONNX} 16:9 {INT8}",
    OURS_TFLITE,
    *(f"{OURS_TFLITE} {frame}" for frame in FRAMES),
    f"{OURS_TFLITE} 16:9 {INT8}",
    PLAIN_TFLITE,
    PLAIN_ONNX,
)
STEPS = ("encode", "click")
SETTLE = 0.25  # seconds: threads of a plain ONNX session look for work after each run, beside whatever is measured next
CONSOLE = Console(stderr=True, markup=False, highlight=False)
Row = dict[str, Any]
Measure = Callable[[], dict[str, float]]


def main() -> None:
    """Measure what is wanted, and print the tables."""
    arguments = _arguments()
    if arguments.child == "serve":
        serve(_begin)
        return
    if arguments.child == "export":
        print(json.dumps(_exported(arguments)))
        return
    if arguments.measure is not None:
        results = arguments.results
        document = json.loads(results.read_text("utf-8")) if results.is_file() else {"variants": {}}
        measured_at = commit()  # before results are written into the tree
        document |= {
            "machine": machine(),
            "commit": measured_at,
            "versions": tool_versions(
                ("torch", "onnx", "onnxruntime", "ai-edge-litert", "litert-torch", "segment-anything")
            ),
        }
        for variant in arguments.measure or VARIANTS:
            document["variants"][variant] = {"commit": measured_at, "rows": _measured(variant, arguments)}
            results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for variant, found in json.loads(arguments.results.read_text("utf-8"))["variants"].items():
        table = frames_table(found["rows"]) if arguments.frames else peers_table(found["rows"])
        print(f"\n**{variant}**, at {found['commit']}\n\n{table}")


def _measured(variant: str, arguments: argparse.Namespace) -> list[Row]:
    """A row for each contestant of a variant."""
    wanted = FRAME_KINDS if arguments.frames else arguments.kinds
    kinds = [kind for kind in wanted if not (variant != "vit_b" and kind == DYNAMIC)]
    calibration: str | None = arguments.calibration
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        for kind in kinds:
            command = [sys.executable, __file__, "--measure", variant, "--child", "export", "--kind", kind]
            command += ["--folder", name] + (["--calibration", calibration] if calibration else [])
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            if said.returncode:
                rows[kind] = {"kind": kind, "error": said.stderr.strip().splitlines()[-1][:200]}
            else:
                rows[kind] = {"kind": kind, **json.loads(said.stdout.splitlines()[-1])}
            CONSOLE.print(f"{variant}, {kind}: exported {rows[kind]}")
        for frame, size in FRAMES.items():
            np.save(folder / _photo(frame), draw_photo(size))
        running = [kind for kind in kinds if "error" not in rows[kind]]
        workers = {
            kind: stack.enter_context(Worker(kind, (sys.executable, __file__, "--child", "serve"))) for kind in running
        }
        for kind, worker in workers.items():
            worker.request(json.dumps({"kind": kind, "variant": variant, "folder": name}))
        rounds = Rounds(arguments.rounds, warm_up=1, budget=arguments.budget)
        taken = interleave(
            [worker.measure for worker in workers.values()],
            rounds,
            lambda what, done, total: CONSOLE.print(f"{variant}, {what} {done}/{total}"),
        )
        samples = dict(zip(workers, taken, strict=True))
        for kind, worker in workers.items():
            rows[kind] |= worker.request(END)
        embeddings = {kind: np.load(folder / f"{kind}.npy") for kind in running}
    for kind in running:
        own = samples[kind]
        rows[kind]["steps"] = {step: spread([seconds[step] for seconds in own]) for step in STEPS}
        others = [other for other in running if other != kind]
        rows[kind]["ratio"] = {
            other: {
                step: ratios([seconds[step] for seconds in own], [seconds[step] for seconds in samples[other]])
                for step in STEPS
            }
            for other in others
        }
        rows[kind]["memory_ratio"] = {other: rows[kind]["peak_bytes"] / rows[other]["peak_bytes"] for other in others}
        rows[kind]["snr_db"] = _snr(embeddings.get(TORCH), embeddings[kind]) if kind != TORCH else None
    return list(rows.values())


def _snr(expected: Any, found: Any) -> float | None:
    from sam_edge_runtime.agreement.metrics import snr_db  # noqa: PLC0415

    return None if expected is None or expected.shape != found.shape else float(snr_db(expected, found))


def _photo(kind: str) -> str:
    """The file of a contestant's photo: of its frame's shape, or of 3:2."""
    shape = next((frame for frame in FRAMES if frame in kind.split()), "3:2")
    return f"photo-{shape.replace(':', '-')}.npy"


# The functions below run in child processes: one for each export, then one for each contestant.


def _exported(arguments: argparse.Namespace) -> Row:
    """Make the files of a contestant; returns size, seconds and peak memory."""
    kind, variant, folder = arguments.kind, arguments.measure[0], arguments.folder
    reset_peak()
    begun = time.perf_counter()
    if kind.startswith((OURS_ONNX, OURS_TFLITE)):
        _, target, *form = kind.split()
        frame = next((each for each in form if each in FRAMES), "square")
        out = folder / kind
        command = [sys.executable, "-m", "sam_edge", "export", "--model", variant, "--target", target]
        command += ["--frame", frame, "--out", str(out)] + ([] if variant == "nano" else ["--checkpoint", SEED])
        if INT8 in form:
            command += ["--precision", INT8]
            command += ["--calibration", arguments.calibration] if arguments.calibration else []
        said = subprocess.run(command, check=False, stdout=sys.stderr)
        if not out.is_dir():  # masks of random weights in INT8 miss the bound: an exit code, and a bundle
            sys.exit(said.returncode)
        return {"export_seconds": time.perf_counter() - begun, "bytes": _bytes(out), "export_peak_bytes": None}
    if kind == TORCH:
        return {"export_seconds": None, "bytes": None, "export_peak_bytes": None}
    from peer_modules import export_plain  # noqa: PLC0415

    out = folder / kind
    out.mkdir()
    export_plain(kind, variant, out)
    seconds = time.perf_counter() - begun
    return {"export_seconds": seconds, "bytes": _bytes(out), "export_peak_bytes": peak_bytes()}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _begin(job: Row) -> tuple[Measure, Row]:
    """Load a contestant; returns a function that measures it once."""
    from peer_engines import engine  # noqa: PLC0415

    folder = Path(job["folder"])
    encode, click = engine(job["kind"], job["variant"], folder / job["kind"], np.load(folder / _photo(job["kind"])))
    embeddings = encode()
    np.save(folder / f"{job['kind']}.npy", embeddings)

    def measure() -> dict[str, float]:
        taken = {step: timed(work)[0] for step, work in zip(STEPS, (encode, click), strict=True)}
        time.sleep(SETTLE)
        return taken

    return measure, {}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--measure", nargs="*", choices=VARIANTS, help="measure these variants; default: all")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--frames", action="store_true", help="measure frames beside squares and plain exports")
    parser.add_argument("--calibration", help="photos for w8a8, see `sam-edge export`; default: its own")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of the results")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--budget",
        type=float,
        default=180.0,
        help="seconds for the rounds of a variant, of which at least three are measured",
    )
    parser.add_argument("--child", choices=("export", "serve"), help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
