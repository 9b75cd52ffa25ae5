"""ONNX artifacts, through ONNX Runtime's quantizer.

`onnx_graph` finds which operations are computed in eight bits, `onnx_static` has ONNX Runtime's quantizer round their
activations (`w8a8`), and `onnx_weights` does what needs no calibration (`w8`, `dynamic`, `w4`). One graph may hold all
of it. Activations are unsigned for x86 and signed for Arm, where each has its fast kernels.

A layer gets the next best where ONNX Runtime has no kernel for what the recipe asks: `w8` for a convolution that is to
be `dynamic` or `w4`, for a transposed one that is to be `w8a8`, and for products with anything but a plain matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import GraphProto, ModelProto, TensorProto
from onnxruntime.quantization.onnx_model import ONNXModel

from sam_edge_quant.plan import Plan
from sam_edge_quant.ranges.ranges import Range, Ranges, Sample, Tell
from sam_edge_quant.recipe import FLOAT
from sam_edge_runtime.errors import ExportError, UsageError, first_line
from sam_edge_runtime.system.quiet import no_logging

from .graph import BOUNDS, EightBits, Layer, eight_bits, layers_of, limits_of
from .static import round_activations
from .weights import MICROSOFT, Rewriting

EXTERNAL_DATA_ABOVE = (1 << 31) - (16 << 20)  # bytes of weights: protobuf's 2 GiB less room for nodes and names
TOLD_AT_ONCE = 1 << 30  # bytes of activations that an observer holds


@dataclass(frozen=True)
class Sorted:
    """A graph's layers with their names and ways, and the operations that are no layer's."""

    layers: Sequence[tuple[Layer, str, str]]
    unknown: list[str]

    def by_way(self, way: str) -> list[Layer]:
        """The layers that are kept in one way."""
        return [layer for layer, _, given in self.layers if given == way]


def tensors(path: Path, plan: Plan) -> list[str]:
    """Names of the activations whose range has to be known, in the graph's order.

    Raises:
        UsageError: the plan's recipe asks for a way that is not ONNX Runtime's.
    """
    graph = onnx.load(path).graph
    return eight_bits(graph, _sorted_out(graph, plan).by_way("w8a8")).measured


def observer(path: Path, names: Sequence[str]) -> Callable[[Sample, Tell], None]:
    """A function that runs the fp32 artifact on one sample and tells the values of the named activations.

    Where these take more than a gigabyte, the artifact is run for one part of them after the other.

    Raises:
        ExportError: by the function too; ONNX Runtime refuses the artifact or the sample.
    """
    model = onnx.load(path, load_external_data=False)
    inputs = {each.name for each in model.graph.input}
    parts = _parts(model.graph, [name for name in names if name not in inputs])
    # One session stays; several, each with all the weights, would take more than the values themselves.
    kept = _session(model, parts[0], path) if len(parts) == 1 else None

    def observe(sample: Sample, tell: Tell) -> None:
        for name in inputs.intersection(names):
            tell(name, sample[name])
        for part in parts:
            session = kept or _session(model, part, path)
            try:
                values = session.run(part, sample)
            except Exception as error:  # ONNX Runtime's errors have no common class
                raise ExportError(f"ONNX Runtime fails on {path.name}: {first_line(error)}") from error
            for name, value in zip(part, values, strict=True):
                tell(name, value)

    return observe


def _parts(graph: GraphProto, names: Sequence[str]) -> list[list[str]]:
    """Names in groups of which the values are held at once; a free axis counts as one."""
    shapes = {each.name: each.type.tensor_type.shape.dim for each in (*graph.value_info, *graph.output)}
    parts: list[list[str]] = []
    room = 0
    for name in names:
        size = 4 * prod(each.dim_value or 1 for each in shapes[name])
        if size > room:
            parts.append([])
            room = TOLD_AT_ONCE
        parts[-1].append(name)
        room -= size
    return parts


def _session(model: ModelProto, names: Sequence[str], path: Path) -> ort.InferenceSession:
    """A session that answers with the named tensors, of which it makes the model's outputs."""
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # The extended ones would compute in other layouts, which takes memory for copies and tells nothing more.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ExportError(f"ONNX Runtime rejects {path.name}: {first_line(error)}") from error


def quantize(source: Path, path: Path, plan: Plan, ranges: Ranges) -> dict[str, Any]:
    """Write the fp32 artifact `source` to `path` as the plan has it, with the same inputs and outputs in float32.

    Where more than 2 GiB of weights are left, they go beside it into `path` + `.data`.

    Returns:
        `layers`: by name, the way that each was given; `unknown`: operations with a weight of two axes or more that is
        no layer's; `operations`: how many of each type have weights or activations in whole numbers.

    Raises:
        UsageError: the plan's recipe asks for a way that is not ONNX Runtime's.
        ExportError: the range of an activation is missing or no range, or ONNX Runtime's quantizer fails.
    """
    model = onnx.load(source)
    found = _sorted_out(model.graph, plan)
    region = eight_bits(model.graph, found.by_way("w8a8"))
    by_tensor = _ranges_of(region, model.graph, ranges)
    kinds = Counter(layer.kind for layer, _, way in found.layers if way != FLOAT)
    kinds.update(str(node.op_type) for node in region.glue)
    try:
        with no_logging():
            _change(model, found, region, by_tensor, plan)
    except Exception as error:  # the quantizer's own errors have no common class
        raise ExportError(f"ONNX Runtime's quantizer failed on {source.name}: {first_line(error)}") from error
    _save(model, path)
    ways = {name: way for _, name, way in found.layers}
    return {"layers": ways, "unknown": found.unknown, "operations": dict(sorted(kinds.items()))}


def _change(model: ModelProto, found: Sorted, region: EightBits, ranges: Mapping[str, Range], plan: Plan) -> None:
    """Put every layer into its way."""
    rewriting = Rewriting(model.graph)
    for layer in found.by_way("w8"):
        rewriting.keep_weight_in_eight_bits(layer)
    for layer in found.by_way("dynamic"):
        rewriting.quantize_input_in_each_call(layer)
    for layer in found.by_way("w4"):
        rewriting.keep_weight_in_four_bits(layer)
    if region.layers:
        scales = [rewriting.put_weight_on_grid(layer) for layer in region.layers]
        round_activations(model, region, ranges, scales, plan.arm)
    _tidy(model)


def _sorted_out(graph: GraphProto, plan: Plan) -> Sorted:
    layers, unknown = [], []
    for layer in layers_of(graph):
        name = plan.layer(layer.weight)
        if name is None:
            unknown.append(str(layer.node.name))
        else:
            layers.append((layer, name, _given(layer, name, plan.recipe.scheme_of(name))))
    return Sorted(layers, unknown)


def _given(layer: Layer, name: str, asked: str) -> str:
    """The way that a layer gets for the one that is asked for."""
    if asked in (FLOAT, "w8"):
        return asked
    if asked in ("dynamic", "w4"):
        return asked if layer.is_plain_product else "w8"
    if asked == "w8a8":
        return asked if layer.is_plain_product or layer.kind == "Conv" else "w8"
    raise UsageError(f"{name} is to be {asked}, which ONNX Runtime has not: choose fp32, w8, dynamic, w8a8 or w4")


def _ranges_of(region: EightBits, graph: GraphProto, ranges: Ranges) -> dict[str, Range]:
    """Ranges of all activations in eight bits, those before a bound that vanishes cut to what it leaves."""
    constants = {each.name: each for each in graph.initializer}
    limits = {str(node.output[0]): limits_of(node, constants) for node in region.glue if node.op_type in BOUNDS}
    found: dict[str, Range] = {}
    for name in reversed(region.tensors):  # what is bounded comes before its bound
        measured = found[region.bounded[name]] if name in region.bounded else ranges.get(name)
        if measured is None:
            raise ExportError(f"nothing is known of the range of {name!r}, which is to have eight bits: calibrate anew")
        if not (isfinite(measured.low) and isfinite(measured.high) and measured.low <= measured.high):
            raise ExportError(f"{name!r} ranges from {measured.low} to {measured.high}: keep what computes it in fp32")
        low, high = limits.get(name) or (measured.low, measured.high)
        found[name] = Range(max(measured.low, low), min(measured.high, high))
    return found


def _tidy(model: ModelProto) -> None:
    """Sort the operations, say whose they are, and take out what none reads or makes any more."""
    whole = ONNXModel(model)
    if any(node.domain == MICROSOFT for node in model.graph.node):
        whole.set_opset_import(MICROSOFT, 1)
    whole.topological_sort()
    whole.clean_initializers()
    made = {name for node in model.graph.node for name in node.output}
    described = [each for each in model.graph.value_info if each.name in made]
    del model.graph.value_info[:], model.metadata_props[:]
    model.graph.value_info.extend(described)


def _save(model: ModelProto, path: Path) -> None:
    beside = sum(each.ByteSize() for each in model.graph.initializer) > EXTERNAL_DATA_ABOVE
    location = f"{path.name}.data" if beside else None
    onnx.save_model(model, path, save_as_external_data=beside, location=location)
