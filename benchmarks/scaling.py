"""Time and memory by input side, number of prompts, threads and variant, relative to the machine's peak.

    python benchmarks/scaling.py                  # the tables of results/scaling.json
    python benchmarks/scaling.py --measure        # measure, then the tables; --plot FILE draws them

Measured are fp32 ONNX graphs with seeded weights, in ONNX Runtime as the runtime opens it, each in a process of its
own: the median of the runs after the first, and the peak memory of the process. For comparison, the same floating-point
operations (torch's FlopCounterMode: products and convolutions) at the rate of this machine's fastest large product,
2,048 x 2,048 x 2,048 in numpy or ONNX Runtime. No implementation can be much faster than that. (numpy's OpenBLAS may
lack a kernel for a processor with AVX-512, and then be slower than graphs are.)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from tables.scaling import peak_line, scaling_table

from sam_edge.reporting.pages import empty_figure
from sam_edge.reporting.versions import commit, tool_versions
from sam_edge_runtime.benchmark.clock import timed
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.benchmark.spread import spread
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.system.memory import peak_bytes

RESULTS = Path(__file__).parent / "results" / "scaling.json"
SIDES = {"nano": (256, 384, 512, 768, 1024), "tiny_vit": (256, 512, 768, 1024), "vit_b": (256, 512, 768, 1024)}
PROMPTS = (1, 2, 4, 8, 16, 32, 64)
DECODERS = {"nano": 512, "tiny_vit": 1024}  # tiny_vit's decoder is SAM's
NATIVE = {"nano": 512, "tiny_vit": 1024, "vit_b": 1024}
ENOUGH = 5.0  # seconds after which no run beyond the least number is started
RUNS = (2, 20)  # least and largest number
PRODUCT = 2048
MEGABYTES = (100, 200, 500, 1000, 2000)  # ticks of the plot
CONSOLE = Console(stderr=True, markup=False, highlight=False)


@dataclass(frozen=True)
class Point:
    """A measurement: a graph of a variant at an input side, with a number of prompts and of threads."""

    graph: str
    variant: str
    side: int
    prompts: int
    threads: int


def main() -> None:
    """Measure what is wanted, print the tables, draw."""
    arguments = _arguments()
    if arguments.child is not None:
        print(json.dumps(_run(Point(**json.loads(arguments.child)), arguments.file)))
        return
    if arguments.product is not None:
        print(_product(arguments.product, arguments.threads))
        return
    if arguments.measure:
        document = _measured(machine()["cores"])
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    document = json.loads(RESULTS.read_text("utf-8"))
    print(tables(document))
    if arguments.plot is not None:
        plot(document, arguments.plot)


def tables(document: dict[str, Any]) -> str:
    """Markdown: encoders by side, decoders by prompts, both with one thread."""
    parts = [f"Products of {PRODUCT} cubed: {peak_line(document)}"]
    for graph, threads in product(("encoder", "decoder"), (None, 1)):
        parts.append(f"{graph}, {threads or 'all'} threads\n\n{scaling_table(document, graph, threads)}")
    return "\n\n".join(parts)


def plot(document: dict[str, Any], path: Path) -> None:
    """Time and memory of encoders by side, time of decoders by prompts; dotted: at the machine's peak."""
    cores = max(int(count) for count in document["peak"])
    peak = max(document["peak"][str(cores)].values())
    figure = empty_figure(13, 4, dpi=100)
    times, memory, prompts = figure.subplots(1, 3)
    rows = [row for row in document["rows"] if row["threads"] == cores]
    for number, variant in enumerate(SIDES):
        own = [row for row in rows if row["variant"] == variant and row["graph"] == "encoder"]
        sides = [row["side"] for row in own]
        times.plot(sides, [1e3 * row["seconds"]["p50"] for row in own], "o-", color=f"C{number}", label=variant)
        times.plot(sides, [1e3 * row["flop"] / peak for row in own], ":", color=f"C{number}")
        memory.plot(sides, [row["peak_bytes"] / 1e6 for row in own], "o-", color=f"C{number}", label=variant)
        own = [row for row in rows if row["variant"] == variant and row["graph"] == "decoder"]
        name = "SAM's" if variant == "tiny_vit" else f"{variant}'s"
        if own:
            counts = [row["prompts"] for row in own]
            prompts.plot(counts, [1e3 * row["seconds"]["p50"] for row in own], "o-", color=f"C{number}", label=name)
            prompts.plot(counts, [1e3 * row["flop"] / peak for row in own], ":", color=f"C{number}")
    for axes, x, y in (
        (times, "input side, pixels", "image encoder, ms"),
        (memory, "input side, pixels", "peak of the process, MB"),
        (prompts, "prompts in a call", "mask decoder, ms"),
    ):
        axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend(fontsize=8)
        ticks = PROMPTS if axes is prompts else SIDES["nano"]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
    memory.set_yticks(MEGABYTES, [f"{tick:,}" for tick in MEGABYTES])
    figure.suptitle(
        f"{document['machine']['processor']}, {cores} cores; dotted: the same operations at {peak / 1e9:.0f} GFLOP/s",
        fontsize=10,
    )
    figure.savefig(path)


def _measured(cores: int) -> dict[str, Any]:
    points = [Point("encoder", variant, side, 1, cores) for variant, sides in SIDES.items() for side in sides]
    points += [Point("decoder", variant, side, count, cores) for variant, side in DECODERS.items() for count in PROMPTS]
    if cores > 1:
        points += [Point("encoder", variant, side, 1, 1) for variant, side in NATIVE.items()]
        points += [Point("decoder", variant, side, 1, 1) for variant, side in DECODERS.items()]
    rows = []
    made: dict[tuple[str, str, int], tuple[Path, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for point in track(points, "measuring", console=CONSOLE):
            key = (point.graph, point.variant, point.side)
            if key not in made:
                made[key] = _exported(point, Path(name) / f"{len(made)}.onnx")
            file, flop = made[key]
            command = [sys.executable, __file__, "--child", json.dumps(asdict(point)), "--file", str(file)]
            said = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append({**asdict(point), "flop": flop * point.prompts, **json.loads(said.stdout)})
    return {
        "machine": machine(),
        "commit": commit(),
        "versions": tool_versions(("torch", "onnxruntime")),
        "peak": {str(threads): _peak(threads) for threads in dict.fromkeys((1, cores))},
        "rows": rows,
    }


def _exported(point: Point, path: Path) -> tuple[Path, int]:
    """Export the graph with seeded weights as ONNX, and count its floating-point operations for one prompt."""
    import torch  # noqa: PLC0415
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    from sam_edge.model import DecoderGraph, EncoderGraph  # noqa: PLC0415
    from sam_edge.model.lean import lean_rewrite  # noqa: PLC0415
    from sam_edge.weights.load import find_source, load_sam  # noqa: PLC0415
    from sam_edge_exporters.onnx import export  # noqa: PLC0415
    from sam_edge_runtime.bundle.contract import decoder_contract, encoder_contract  # noqa: PLC0415

    sam = load_sam(point.variant, find_source(point.variant, "random:0"), point.side).sam.eval()
    if point.graph == "encoder":
        graph: torch.nn.Module = EncoderGraph(sam).eval()
        contract = encoder_contract(FrameSize.square(point.side), sam.channels)
    else:
        graph = lean_rewrite(DecoderGraph(sam).eval())
        contract = decoder_contract(FrameSize.square(point.side), sam.channels, None, None)
    export(graph, contract, path)
    inputs = [torch.from_numpy(array) for array in _inputs(point, sam.channels, prompts=1)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        graph(*inputs)
    return path, counter.get_total_flops()


def _inputs(point: Point, channels: int, prompts: int) -> list[np.ndarray]:
    """Inputs of the graph: a photo of noise, or an embedding of noise and clicks in the middle."""
    rng, side = np.random.default_rng(0), point.side
    if point.graph == "encoder":
        return [rng.uniform(0, 255, (1, 3, side, side)).astype(np.float32)]
    labels = np.tile(np.array([[1.0, -1.0]], np.float32), (prompts, 1))
    return [
        rng.standard_normal((1, channels, side // 16, side // 16), np.float32),
        np.full((prompts, 2, 2), side / 2, np.float32),
        labels,
        np.zeros((prompts, 1, side // 4, side // 4), np.float32),
        np.zeros(prompts, np.float32),
    ]


def _run(point: Point, path: Path) -> dict[str, Any]:
    """Run a graph in this process."""
    import onnxruntime  # noqa: PLC0415

    from sam_edge_runtime.backends.onnx import open_session  # noqa: PLC0415

    session = open_session(onnxruntime, path, point.threads, ["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    arrays = _inputs(point, first.shape[1], point.prompts)
    feed = dict(zip((each.name for each in session.get_inputs()), arrays, strict=True))
    taken: list[float] = []
    begun = time.monotonic()
    while len(taken) <= RUNS[0] or (len(taken) <= RUNS[1] and time.monotonic() - begun < ENOUGH):
        taken.append(timed(lambda: session.run(None, feed))[0])
    return {"seconds": spread(taken[1:]), "peak_bytes": peak_bytes()}


def _peak(threads: int) -> dict[str, float]:
    """Floating-point operations per second of a large product, by library: the best of twelve."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    found = {}
    for library in ("numpy", "onnxruntime"):
        command = [sys.executable, __file__, "--product", library, "--threads", str(threads)]
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        found[library] = float(said.stdout)
    return found


def _product(library: str, threads: int) -> float:
    """Floating-point operations per second of a large product in this process."""
    a, b = np.random.default_rng(0).standard_normal((2, PRODUCT, PRODUCT), np.float32)
    work = _in_onnxruntime(a, b, threads) if library == "onnxruntime" else partial(np.matmul, a, b)
    return 2 * PRODUCT**3 / min(timed(work)[0] for _ in range(12))


def _in_onnxruntime(a: np.ndarray, b: np.ndarray, threads: int) -> Callable[[], Any]:
    """`a @ b` in a session that has `b` as a weight."""
    import onnx  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, a.shape) for name in "xy")
    product = onnx.helper.make_node("MatMul", ["x", "b"], ["y"])
    graph = onnx.helper.make_graph([product], "product", [x], [y], [onnx.numpy_helper.from_array(b, "b")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return partial(onnxruntime.InferenceSession(model.SerializeToString(), options).run, None, {"x": a})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--product", choices=("numpy", "onnxruntime"), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
