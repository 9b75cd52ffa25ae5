"""INT8 beside the peers: our recipes and other quantizers as they come, on the same weights and graphs.

    python benchmarks/int8_peers.py                                         # the table of results/int8_peers.json
    python benchmarks/int8_peers.py --measure --data DATA                   # measure the rows that are missing
    python benchmarks/int8_peers.py --measure --models nano --input-size 256 --rows "onnx w8a8"     # one of them

A row is one contestant on one model: `TARGET SCHEME` for ours, or a name of `int8_peer_quantizers.QUANTIZERS`. nano
has its own weights, the others seeded ones. Every row starts from the fp32 bundle of its target, which is exported once
into `--work`. It runs in a process of its own: make the files, run the golden test, time both graphs interleaved with
those of the fp32 bundle, and for nano compare masks from boxes with people's on photos of coco/val. Core ML packages
run in an evaluator here, whose time says nothing and is left out. Results are written after each row; a later run makes
the missing rows, and with `--retry` those that failed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from int8_peer_quantizers import QUANTIZERS, Task
from rich.console import Console
from shares import share_of_fp32
from tables.int8_peers import int8_peers_table

from sam_edge.data.sources import open_source
from sam_edge.evaluation.evaluate import evaluate_source
from sam_edge.evaluation.measure import Protocol
from sam_edge.quantization.mixed_precision.timing import time_graphs
from sam_edge.reporting.versions import commit, tool_versions
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.backends import load_backend
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.benchmark.rounds import Rounds
from sam_edge_runtime.bundle.bundle import GOLDEN_FILE, Bundle

RESULTS = Path(__file__).parent / "results" / "int8_peers.json"
MODELS = ("nano", "tiny_vit", "vit_b")
SEED = "random:0"
OURS: tuple[str, ...] = (
    *("onnx w8", "onnx dynamic", "onnx w8a8", "onnx auto"),
    *("tflite w8", "tflite dynamic", "tflite w8a8", "tflite auto"),
    *("coreml w8", "coreml w4"),
)
FP32 = ("onnx fp32", "tflite fp32", "coreml fp32")  # each with itself: 1, and the masks of fp32
ROWS = (*FP32, *OURS, *QUANTIZERS)
ROUNDS, SECONDS = 15, 60.0  # largest number of timing rounds, and seconds after which they end
HUMAN, HUMAN_PHOTOS = "coco/val.tar", 40
MOST_SECONDS = 7200.0  # of one row
CONSOLE = Console(stderr=True, markup=False, highlight=False)
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What a child process needs to know.

    Attributes:
        model: variant.
        row: one of `ROWS`.
        work: folder of the fp32 bundles.
        input_size: side of the frame; None: the model's own.
        calibration: photos, as `sam-edge export` takes them.
        photos: how many of them.
        budget: time of the search of `auto`.
        data: folder with coco/val.tar; None: masks are not compared with people's.
        rounds: largest number of timing rounds.
    """

    model: str
    row: str
    work: str
    input_size: int | None
    calibration: str | None
    photos: int
    budget: str
    data: str | None
    rounds: int

    @property
    def target(self) -> str:
        """The target whose fp32 bundle the row starts from."""
        return QUANTIZERS[self.row][0] if self.row in QUANTIZERS else self.row.split()[0]

    @property
    def checkpoint(self) -> str | None:
        """The weights: None for those that come with nano."""
        return None if self.model == "nano" else SEED


def main() -> None:
    """Measure what is wanted, and print the table."""
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(measured(Settings(**json.loads(arguments.child)))))
        return
    results: Path = arguments.results
    document = json.loads(results.read_text("utf-8")) if results.is_file() else {"rows": []}
    rows: list[Row] = document["rows"]
    if arguments.measure:
        for model, row in product(arguments.models, arguments.rows):
            kind = (model, row, arguments.input_size)
            known = [each for each in rows if (each["model"], each["row"], each["input_size"]) == kind]
            if known and not (arguments.retry and "error" in known[0]):
                continue
            CONSOLE.print(f"{model}, {row}")
            rows[:] = [each for each in rows if each not in known]
            rows.append(_row(_settings(model, row, arguments)))
            document |= {"machine": machine(), "commit": commit(), "versions": _versions()}
            results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            CONSOLE.print(f"  {rows[-1].get('error') or rows[-1]['mask_miou']}")
    print(int8_peers_table(rows))


def _versions() -> dict[str, str]:
    return tool_versions(
        ("torch", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "coremltools", "neural-compressor")
    )


def _settings(model: str, row: str, arguments: argparse.Namespace) -> Settings:
    data = None if arguments.data is None else str(arguments.data)
    return Settings(
        model=model,
        row=row,
        work=str(arguments.work),
        input_size=arguments.input_size,
        calibration=arguments.calibration,
        photos=arguments.photos,
        budget=arguments.budget,
        data=data,
        rounds=arguments.rounds,
    )


def _row(settings: Settings) -> Row:
    """A row, measured in a process of its own; its error where it fails."""
    begun = time.perf_counter()
    row: Row = {"model": settings.model, "row": settings.row, "input_size": settings.input_size}
    try:
        said = subprocess.run(
            [sys.executable, __file__, "--child", json.dumps(asdict(settings))],
            capture_output=True,
            text=True,
            check=False,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {**row, "error": f"not done after {MOST_SECONDS:.0f} s"}
    seconds = time.perf_counter() - begun
    if said.returncode:
        lines = said.stderr.strip().splitlines() or [f"exit code {said.returncode}"]
        return {**row, "seconds": seconds, "error": lines[-1][:200]}
    return {**row, "seconds": seconds, **json.loads(said.stdout.strip().splitlines()[-1])}


# The functions below run in a child process.


def measured(settings: Settings) -> Row:
    """The figures of one row."""
    fp32 = _fp32(settings)
    bundle = _made(settings, fp32)
    test = golden.Golden.load(fp32.root / GOLDEN_FILE, fp32.manifest)
    backend = load_backend(bundle)
    found = golden.check(test, backend, bundle.manifest)
    figures: Row = {
        "size": _graph_bytes(bundle) / _graph_bytes(fp32),
        "bytes": _graph_bytes(bundle),
        "embedding_snr_db": found.embedding_snr_db,
        "mask_miou": found.mask_miou,
        "lowest_mask_iou": min(found.worst[1].mask_iou),
    }
    if settings.target != "coreml":
        figures |= _times(fp32, bundle, settings.rounds)
    if settings.model == "nano" and settings.data is not None:
        protocol = Protocol(clicks=1, grabcut=False)
        source = open_source(str(Path(settings.data) / HUMAN))
        figures["human"] = evaluate_source(backend, bundle.manifest, source, protocol, limit=HUMAN_PHOTOS).box.single
    return figures


def _fp32(settings: Settings) -> Bundle:
    """The fp32 bundle of the row's target, exported if it is not there."""
    out = Path(settings.work) / f"{settings.model}-{settings.input_size or 'own'}-{settings.target}-fp32"
    if not out.is_dir():
        _export(settings, "fp32", out)
    return Bundle.open(out, check_hashes=False)


def _made(settings: Settings, fp32: Bundle) -> Bundle:
    """The row's bundle, in the work folder."""
    if settings.row in FP32:
        return fp32
    out = fp32.root.with_name(f"{settings.model}-row")
    shutil.rmtree(out, ignore_errors=True)
    if settings.row in QUANTIZERS:
        shutil.copytree(fp32.root, out)
        _, quantize = QUANTIZERS[settings.row]
        quantize(Task(fp32, out, settings.checkpoint, settings.calibration, settings.photos))
        return Bundle(out, fp32.manifest)  # its files are no longer those that the manifest records
    _export(settings, settings.row.split()[1], out)
    return Bundle.open(out, check_hashes=False)


def _export(settings: Settings, precision: str, out: Path) -> None:
    command = [sys.executable, "-m", "sam_edge", "export", "--model", settings.model, "--target", settings.target]
    command += ["--precision", precision, "--out", str(out), "--keep", "--budget", settings.budget]
    if settings.input_size is not None:
        command += ["--input-size", str(settings.input_size)]
    if settings.checkpoint is not None:
        command += ["--checkpoint", settings.checkpoint]
    if precision != "fp32" and settings.calibration is not None:
        command += ["--calibration", settings.calibration, "--photos", str(settings.photos)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if not out.is_dir():  # a missed bound has an exit code, too, and a bundle
        sys.exit(said.stderr.strip().splitlines()[-1])


def _graph_bytes(bundle: Bundle) -> int:
    """Bytes of both graphs: files, or folders in which Core ML keeps them."""
    paths = [bundle.root / name for name in (bundle.manifest.encoder, bundle.manifest.decoder)]
    paths += [path for path in bundle.root.iterdir() if path.name.endswith(".data")]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else (path,))]
    return sum(file.stat().st_size for file in files if file.is_file())


def _times(fp32: Bundle, bundle: Bundle, rounds: int) -> Row:
    """Both graphs' time as a share of fp32's in the same rounds: median, and quartiles of the pairs."""
    manifest = fp32.manifest
    side = manifest.input_side
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, side, side)).astype(np.float32)
    backends = {"fp32": load_backend(fp32), "row": load_backend(bundle)}
    taken = time_graphs(backends, image, manifest, Rounds(rounds, warm_up=1, budget=2 * SECONDS))
    found = {}
    for graph, name in (("encoder", "encoder"), ("decoder", "click")):
        found[name] = share_of_fp32(taken["row", graph], taken["fp32", graph])
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the measurements")
    parser.add_argument(
        "--measure", action="store_true", help="measure the rows that the file of results does not have"
    )
    parser.add_argument("--retry", action="store_true", help="with --measure: also rows that failed")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW", help="; ".join(ROWS))
    parser.add_argument("--input-size", type=int, help="side of the frame; default: the model's own")
    parser.add_argument("--calibration", help="see `sam-edge export`")
    parser.add_argument("--photos", type=int, default=16, help="calibration photos; quantize_static keeps all values")
    parser.add_argument("--budget", default="5m", help="time for the search of `auto`")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--data", type=Path, help="folder with coco/val.tar, for nano")
    parser.add_argument("--work", type=Path, default=Path("build/int8_peers"), help="folder of the fp32 bundles")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
