"""Size, accuracy and time of exported text and image encoders, by target and precision.

    python benchmarks/clip_encoders.py                                    # the table of results/clip_encoders.json
    python benchmarks/clip_encoders.py --measure                          # what is missing, then the table
    python benchmarks/clip_encoders.py --measure --models clip_vit_b_32 --encoders text --targets onnx

Weights are seeded, which costs the same and says nothing about words: cosines with fp32 torch tell what the quantizer
loses on such weights. Times are of one text or crop, on one thread; precisions of an encoder take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from shares import share_of_fp32
from tables.clip_encoders import clip_encoders_table

from sam_edge.export.clip import FILE, IMAGE, TEXT
from sam_edge.model.clip.variants import CLIP_CONFIGS
from sam_edge.reporting.versions import commit, tool_versions
from sam_edge_runtime.backends.artifact import open_artifact
from sam_edge_runtime.benchmark.clock import timed
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.benchmark.rounds import Rounds, interleave
from sam_edge_runtime.benchmark.spread import spread
from sam_edge_runtime.bundle.targets import TARGETS

RESULTS = Path(__file__).parent / "results" / "clip_encoders.json"
MODELS = ("tinyclip_vit_8m_16", "clip_vit_b_32")
ENCODERS = (TEXT, IMAGE)
PRECISIONS = ("fp32", "w8", "w8a8")
ROUNDS = Rounds(15, warm_up=1)
ENGINES = ("onnx", "tflite")  # Core ML's run on a Mac
CONSOLE = Console(stderr=True, markup=False, highlight=False)
Row = dict[str, Any]


def main() -> None:
    """Measure what is wanted, and print the table."""
    arguments = _arguments()
    results: Path = arguments.results
    rows: list[Row] = json.loads(results.read_text("utf-8"))["rows"] if results.is_file() else []
    if arguments.measure:
        known = {(row["model"], row["encoder"], row["target"]) for row in rows}
        for model in arguments.models:
            for encoder in arguments.encoders:
                for target in arguments.targets:
                    if (model, encoder, target) not in known:
                        rows += measured(model, encoder, target)
                        document = {"machine": machine(), "commit": commit(), "versions": _versions(), "rows": rows}
                        results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(clip_encoders_table(rows))


def measured(model: str, encoder: str, target: str) -> list[Row]:
    """One row for each precision; without an engine there are no times."""
    with tempfile.TemporaryDirectory() as folder:
        rows: list[Row] = []
        runs: list[Callable[[], float]] = []
        for precision in PRECISIONS:
            out = Path(folder) / precision
            facts = _exported(model, encoder, target, precision, out)
            rows.append({"model": model, "encoder": encoder, "target": target, "precision": precision})
            rows[-1] |= {name: facts[name] for name in ("bytes", "cosine", "missed")}
            CONSOLE.print(f"{rows[-1]}")
            if target in ENGINES:
                runs.append(partial(_seconds, _call(out / facts["file"], facts["inputs"][0], target)))
        if runs:
            seconds = interleave(runs, ROUNDS)
            for row, own in zip(rows, seconds, strict=True):
                row |= {"seconds": spread(own), "of_fp32": share_of_fp32(own, seconds[0])}
    return rows


def _exported(model: str, encoder: str, target: str, precision: str, out: Path) -> Row:
    """Export in a process of its own; what the folder says of the encoder."""
    command = [sys.executable, "-m", "sam_edge", "export-clip", "--model", model, "--checkpoint", "random:0"]
    command += ["--target", target, "--precision", precision, "--encoders", encoder, "--out", str(out)]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    if not (out / FILE).is_file():
        sys.exit(f"{' '.join(command)}\n{said.stderr}")
    facts: Row = json.loads((out / FILE).read_text("utf-8"))["encoders"][encoder]
    return facts


def _call(path: Path, tensor: Row, target: str) -> Callable[[], Any]:
    """One call with a text or crop of the tensor's shape and range, on one thread."""
    shape = [1 if isinstance(size, str) else size for size in tensor["shape"]]
    low, high = tensor["value_range"]
    value = np.floor(np.random.default_rng(0).uniform(low, high, shape)).astype(np.float32)
    return partial(open_artifact(path, target, threads=1), {tensor["name"]: value})


def _seconds(call: Callable[[], Any]) -> float:
    return timed(call)[0]


def _versions() -> dict[str, str]:
    return tool_versions(("torch", "onnxruntime", "ai-edge-litert"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the measurements")
    parser.add_argument("--measure", action="store_true", help="measure what the file does not have")
    parser.add_argument("--models", nargs="+", choices=list(CLIP_CONFIGS), default=list(MODELS))
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
