"""Core ML bundles on a Mac: their times, and which compute unit runs which operations.

Times come from coremltools' `MLModelBenchmarker` (`coremltools/models/ml_program/experimental/perf_utils.py`, since
8.3), which reads Core ML's own durations of a load and of each call. The units of operations come from Core ML's plan:
`MLComputePlan` (`coremltools/models/compute_plan.py`, macOS 14.4 or later) gives each operation's preferred unit and
its estimated share of the cost. A plan is no measurement, so operators have a share here but no milliseconds.

The benchmarker's own random inputs fail for pictures and for free axes, so inputs are made here, from the contract. The
first load compiles for the unit; later ones find the result in a cache of the system. The reported load is the first of
this process, whether or not it was cached.

Core ML exists only on Macs, and none was available when this was written: `measure_graph` and `read_plan` have not been
run against it. `figures_from` and `count_operations`, which turn their results into figures, take plain objects and are
tested.
"""

from __future__ import annotations

import asyncio
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sam_edge.reporting.names import short_names
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import GraphContract, TensorSpec
from sam_edge_runtime.errors import BackendError, UsageError, first_line

from .bench import Show
from .timing import ENCODER, Device, Failure, Figures, GraphTiming, Operator, Spread, Tool
from .work import Work, works_of

NAME = "MLModelBenchmarker"
# name here -> coremltools.ComputeUnit; as in sam_edge_runtime.backends.coreml
UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "ane": "CPU_AND_NE", "gpu": "CPU_AND_GPU"}
_PLACES = {"MLCPUComputeDevice": "CPU", "MLGPUComputeDevice": "GPU", "MLNeuralEngineComputeDevice": "Neural Engine"}


class Plan(Protocol):
    """The part of coremltools' `MLComputePlan` that is used."""

    @property
    def model_structure(self) -> Any: ...  # noqa: D102

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any: ...  # noqa: D102

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any: ...  # noqa: D102


def benchmark_apple(
    bundles: Sequence[Bundle],
    repetitions: int = 50,
    units: Sequence[str] = tuple(UNITS),
    show: Show = lambda *_: None,
) -> list[GraphTiming | Failure]:
    """Measure each graph of each bundle on each choice of compute units, a row each.

    Args:
        bundles: Core ML bundles.
        repetitions: measured calls.
        units: some of `UNITS`.
        show: called with what runs, rows done, and all rows.

    Raises:
        UsageError: this is not a Mac, coremltools is missing, a bundle has another target, or a bad argument.
    """
    if not bundles:
        raise UsageError("there is no bundle to measure: name one or more")
    for unit in units:
        if unit not in UNITS:
            raise UsageError(f"compute unit '{unit}' is unknown: choose from {', '.join(UNITS)}")
    if repetitions < 1:
        raise UsageError(f"{repetitions} repetitions are too few: give 1 or more")
    for bundle in bundles:
        if bundle.manifest.target != "coreml":
            raise UsageError(f"{bundle.root} is for {bundle.manifest.target}: Core ML takes bundles for coreml only")
    if sys.platform != "darwin":
        raise UsageError(f"Core ML is measured on a Mac, and this is {platform.system()}: run this command on one")
    tool, device = _tool(), mac()
    works = [
        (bundle, work)
        for name, bundle in zip(short_names([bundle.root for bundle in bundles]), bundles, strict=True)
        for work in works_of(name, bundle)
    ]
    rows: list[GraphTiming | Failure] = []
    total = len(works) * len(units)
    for bundle, work in works:
        for unit in units:
            show(f"{work.subject.bundle} {work.subject.described}, {unit}", len(rows), total)
            try:
                load, calls = measure_graph(work.files[0], graph_inputs(bundle, work), unit, repetitions)
                operators = count_operations(read_plan(work.files[0], unit))
                rows.append(GraphTiming(work.subject, device, tool, unit, None, figures_from(load, calls), operators))
            except Exception as error:  # noqa: BLE001 - the framework's errors have no common class
                rows.append(Failure(work.subject, device, tool, unit, None, first_line(error)[:200]))
    show("done", total, total)
    return rows


def measure_graph(path: Path, inputs: dict[str, Any], unit: str, repetitions: int) -> tuple[float, list[float]]:
    """Milliseconds of the load, and of the first call and `repetitions` more. Needs a Mac."""
    import coremltools  # noqa: PLC0415 - an extra
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker  # noqa: PLC0415

    async def measure() -> tuple[float, list[float]]:
        model = coremltools.models.MLModel(
            str(path), compute_units=getattr(coremltools.ComputeUnit, UNITS[unit]), skip_model_load=True
        )
        benchmarker = MLModelBenchmarker(model)
        load = await benchmarker.benchmark_load(iterations=1)
        calls = await benchmarker.benchmark_predict(inputs=inputs, iterations=repetitions + 1, warmup=False)
        return float(load.samples[0]), [float(sample) for sample in calls.samples]

    return asyncio.run(measure())


def read_plan(path: Path, unit: str) -> Plan:
    """Core ML's plan for running the package at `path` on these compute units. Needs a Mac."""
    import coremltools  # noqa: PLC0415 - an extra
    from coremltools.models.compute_plan import MLComputePlan  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        compiled = coremltools.models.utils.compile_model(str(path), str(Path(folder) / "graph.mlmodelc"))
        plan: Plan = MLComputePlan.load_from_path(
            path=str(compiled), compute_units=getattr(coremltools.ComputeUnit, UNITS[unit])
        )
        return plan


def figures_from(load_ms: float, calls_ms: Sequence[float]) -> Figures:
    """Figures of a load and of calls; the first call is reported separately.

    Raises:
        BackendError: there are fewer than two calls.
    """
    if len(calls_ms) < 2:
        raise BackendError(f"Core ML gave {len(calls_ms)} durations, and two or more are needed: run it again")
    first, *rest = calls_ms
    median, p90, p95, p99 = (float(value) for value in np.percentile(rest, (50, 90, 95, 99)))
    steady = Spread(len(rest), float(np.mean(rest)), float(np.std(rest)), min(rest), max(rest), median, p90, p95, p99)
    return Figures(init_ms=load_ms, first_ms=first, warm_up_ms=None, steady=steady)


def count_operations(plan: Plan) -> tuple[Operator, ...]:
    """Operations by kind and preferred compute unit, with their share of the estimated cost, the largest first.

    Constants have no unit in a plan and are left out.

    Raises:
        BackendError: the model is not an ML Program.
    """
    program = plan.model_structure.program
    if program is None:
        raise BackendError(
            "the package is not an ML Program, so Core ML has no plan of its operations: export it again"
        )
    counts: Counter[tuple[str, str]] = Counter()
    costs: dict[tuple[str, str], float] = {}
    for function in program.functions.values():
        for operation in _operations(function.block):
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is None:
                continue
            place = type(usage.preferred_compute_device).__name__
            key = operation.operator_name.rpartition(".")[2], _PLACES.get(place, place)  # `ios17.conv` -> `conv`
            cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
            counts[key] += 1
            costs[key] = costs.get(key, 0.0) + (0.0 if cost is None else float(cost.weight))
    total = sum(costs.values())
    operators = (
        Operator(kind, counts[kind, unit], None, cost / total if total else 0.0, unit)
        for (kind, unit), cost in costs.items()
    )
    return tuple(sorted(operators, key=lambda each: (-each.share, -each.count)))


def graph_inputs(bundle: Bundle, work: Work) -> dict[str, Any]:
    """Seeded inputs of a graph by name: arrays, or a picture if the encoder takes one."""
    manifest = bundle.manifest
    encoder = work.subject.graph == ENCODER
    contract: GraphContract = manifest.encoder_contract if encoder else manifest.decoder_contract
    generator = np.random.default_rng(0)
    arrays = {spec.name: _array(spec, work.axes, generator) for spec in contract.inputs}
    if not (encoder and manifest.picture_input):
        return dict(arrays)
    from PIL import Image  # noqa: PLC0415 - only for picture inputs

    pixels = arrays["image"][0].transpose(1, 2, 0).astype(np.uint8)  # (1, 3, S, S) -> (S, S, 3)
    return {"image": Image.fromarray(pixels)}


def mac() -> Device:
    """This Mac: model identifier, chip, version."""
    return Device(
        _sysctl("hw.model"), _sysctl("machdep.cpu.brand_string"), f"macOS {platform.mac_ver()[0]}", platform.machine()
    )


def _array(spec: TensorSpec, axes: dict[str, int], generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Random values in the tensor's range; integers for labels, flags and pixels."""
    shape = tuple(axes[size] if isinstance(size, str) else size for size in spec.shape)
    low, high = spec.value_range or (-1.0, 1.0)
    values = generator.uniform(low, high, shape)
    whole = spec.name in ("point_labels", "has_mask_input", "has_text", "image")
    return (np.rint(values) if whole else values).astype(np.float32)


def _operations(block: Any) -> Iterable[Any]:
    """Operations of a block and of its inner blocks."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def _sysctl(name: str) -> str:
    done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()


def _tool() -> Tool:
    try:
        import coremltools  # noqa: PLC0415 - an extra
        from coremltools.models.ml_program.experimental import perf_utils  # noqa: F401, PLC0415
    except ImportError as error:
        raise UsageError("measuring Core ML needs coremltools 8.3 or later: pip install 'sam-edge[coreml]'") from error
    return Tool(f"coremltools {NAME}", str(coremltools.__version__))
