"""Cost and result of exports: seconds, peak memory, size and accuracy by variant, target and precision.

    python benchmarks/exports.py --variants nano tiny_vit vit_b --precisions fp32 fp16 --out results/exports.json

Each export, including its verification, runs in a process of its own, so that its peak memory is its own. Variants
without weights here get seeded ones, which cost the same. Results are written after each export, and a later run with
the same file resumes where an earlier one stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from tables.exports import exports_table

from sam_edge.model import VARIANTS
from sam_edge.reporting.versions import commit
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.bundle.targets import TARGETS

CONSOLE = Console(stderr=True, markup=False, highlight=False)


def main() -> None:
    """Run every export that the result file does not contain yet."""
    arguments = _arguments()
    rows: list[dict[str, Any]] = []
    if arguments.out.is_file():
        rows = json.loads(arguments.out.read_text(encoding="utf-8"))["exports"]
    known = {(row["variant"], row["target"], row["precision"], row["graph"]) for row in rows}
    for wanted in product(arguments.variants, arguments.targets, arguments.precisions, [arguments.graph]):
        if wanted in known:
            continue
        CONSOLE.print(" ".join(wanted))
        rows.append(_export(*wanted))
        CONSOLE.print(f"  {rows[-1]}")
        document = {"machine": machine(), "commit": commit(), "exports": rows}
        arguments.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(exports_table(rows))


def _export(variant: str, target: str, precision: str, graph: str) -> dict[str, Any]:
    """One export in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bundle"
        command = [sys.executable, "-m", "sam_edge", "export", "--model", variant, "--target", target]
        command += ["--precision", precision, "--out", str(out), "--graph", graph]
        if variant != "nano":
            command += ["--checkpoint", "random:0"]
        said = Path(folder) / "said.txt"
        begun = time.perf_counter()
        with said.open("wb") as stream:
            process = os.posix_spawn(command[0], command, os.environ, file_actions=_to(stream.fileno()))
            _, status, usage = os.wait4(process, 0)
        seconds = time.perf_counter() - begun
        code = os.waitstatus_to_exitcode(status)
        row: dict[str, Any] = {"variant": variant, "target": target, "precision": precision, "graph": graph}
        row |= {"seconds": round(seconds, 1), "peak_bytes": usage.ru_maxrss * 1024, "exit": code}
        if not out.is_dir():
            return {**row, "error": said.read_text(errors="replace").strip().splitlines()[-1]}
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        shutil.rmtree(out)
        return {**row, "bytes": size, "engine": report["engine"], "missed": report["missed"], **report["figures"]}


def _to(descriptor: int) -> list[tuple[int, int, int]]:
    return [(os.POSIX_SPAWN_DUP2, descriptor, stream) for stream in (1, 2)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--precisions", nargs="+", default=["fp32"])
    parser.add_argument("--graph", default="plain", help="graph of Core ML: plain or ane")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; new results are added to it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
