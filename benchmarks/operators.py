"""Time of an ONNX graph by kind of operator, for several bundles side by side.

    python benchmarks/operators.py nano-fp32 nano-w8a8 --graph encoder

The times are from ONNX Runtime's profiler, on the optimized graph: the sum of each operator's median over the runs.
Kinds with less than 1 % of the first bundle's time are summed up as "others".
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime

from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.official import SAM_EDGE
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import SamEdgeError, UsageError

LEAST_SHARE = 0.01


def main() -> None:
    """Profile, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--graph", choices=["encoder", "decoder"], default="encoder")
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    bundles = [Bundle.open(path) for path in arguments.bundles]
    for bundle in bundles:
        check(bundle)
    times = [_profiled(bundle, arguments.graph, arguments.runs) for bundle in bundles]
    total = sum(times[0].values())
    kinds = sorted(
        {kind for each in times for kind in each}, key=lambda kind: -max(each.get(kind, 0) for each in times)
    )
    shown = [kind for kind in kinds if max(each.get(kind, 0.0) for each in times) >= LEAST_SHARE * total]
    print(f"| ms | {' | '.join(path.name for path in arguments.bundles)} |")
    print("|---" + "|---:" * len(times) + "|")
    for kind in shown:
        print(f"| {kind} | {' | '.join(f'{each.get(kind, 0.0):.1f}' for each in times)} |")
    others = [sum(value for kind, value in each.items() if kind not in shown) for each in times]
    print(f"| others | {' | '.join(f'{value:.1f}' for value in others)} |")
    print(f"| all | {' | '.join(f'{sum(each.values()):.1f}' for each in times)} |")


def check(bundle: Bundle) -> None:
    """Refuse bundles whose graphs the profiler cannot feed.

    Raises:
        UsageError: another target than ONNX Runtime, or the official layout.
    """
    manifest = bundle.manifest
    if manifest.target != "onnx":
        raise UsageError(
            f"{bundle.root} is for {target_named(manifest.target).title}, and ONNX Runtime is profiled here: name a "
            "bundle for --target onnx"
        )
    if manifest.interface != SAM_EDGE:
        raise UsageError(
            f"{bundle.root} has the tensors of the official SAM model (interface {manifest.interface!r}), which are "
            "not profiled here: export it again without --layout official"
        )


def _profiled(bundle: Bundle, graph: str, runs: int) -> dict[str, float]:
    """Milliseconds of a run by kind of operator, from medians over runs."""
    path = bundle.encoder_path if graph == "encoder" else bundle.decoder_path
    contract = bundle.manifest.encoder_contract if graph == "encoder" else bundle.manifest.decoder_contract
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(0)
        free = {"B": 1, "N": 2}
        feed = {
            spec.name: rng.uniform(0, 1, [free.get(size, size) for size in spec.shape]).astype(np.float32)  # type: ignore[arg-type]
            for spec in contract.inputs
        }
        for _ in range(runs + 1):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    nodes: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes[event["name"]].append(event["dur"] / 1000)
            kinds[event["name"]] = event["args"]["op_name"]
    found: dict[str, float] = defaultdict(float)
    for name, durations in nodes.items():
        found[kinds[name]] += median(durations[1:])
    return dict(found)


if __name__ == "__main__":
    try:
        main()
    except SamEdgeError as error:
        sys.exit(f"error: {error}")
