"""ONNX artifacts, quantized through ONNX Runtime's quantizer.

`graph` finds the operations to compute in INT8, `static` has ONNX Runtime's quantizer quantize their activations
(`w8a8`), and `weights` carries out the schemes without calibration (`w8`, `dynamic`, `w4`). A graph may have all of
them. Activations are unsigned on x86 and signed on Arm, for which each has its fast kernels. A graph with a layer of
the scheme `npu` or `w8a16` is written by `npu` instead, whole and in integers.

Where ONNX Runtime has no kernel for a scheme, a layer gets `w8` instead: a convolution for `dynamic` or `w4`, a
transposed convolution for `w8a8`, and a product with anything but a plain matrix for all three.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, ModelProto
from onnxruntime.quantization.onnx_model import ONNXModel

from sam_edge_quant.plan import Plan
from sam_edge_quant.ranges.ranges import Range, Ranges
from sam_edge_quant.recipe import FLOAT
from sam_edge_runtime.errors import ExportError, UsageError, first_line
from sam_edge_runtime.system.quiet import no_logging

from .graph import BOUNDS, Int8Region, OnnxLayer, int8_region, layers_of, limits_of
from .npu import NpuWriter
from .npu_layout import BITS, is_for_npu, layout_of, measured, schemes_in
from .observer import observer
from .static import quantize_activations
from .weights import MICROSOFT, WeightRewriter

__all__ = ["observer", "quantize", "tensors"]

EXTERNAL_DATA_ABOVE = (1 << 31) - (16 << 20)  # bytes of weights: protobuf's 2 GiB less space for nodes and names


@dataclass(frozen=True)
class NamedLayers:
    """A graph's layers by the plan.

    Attributes:
        layers: each with its name and its scheme.
        unknown: names of operations with a weight that is no layer's.
    """

    layers: Sequence[tuple[OnnxLayer, str, str]]
    unknown: list[str]

    def with_scheme(self, scheme: str) -> list[OnnxLayer]:
        """The layers that have this scheme."""
        return [layer for layer, _, own in self.layers if own == scheme]

    @property
    def for_npu(self) -> bool:
        """Whether the graph takes the form of `npu`."""
        return is_for_npu([scheme for _, _, scheme in self.layers])

    @property
    def schemes(self) -> list[tuple[OnnxLayer, str]]:
        """The layers with their schemes."""
        return [(layer, scheme) for layer, _, scheme in self.layers]


def tensors(path: Path, plan: Plan) -> list[str]:
    """Names of the activations whose ranges a plan needs, in the graph's order.

    Raises:
        UsageError: the plan's recipe has a scheme that ONNX Runtime lacks.
    """
    graph = onnx.load(path).graph
    found = _named_layers(graph, plan)
    if found.for_npu:
        return measured(graph, layout_of(graph, found.schemes))
    return int8_region(graph, found.with_scheme("w8a8")).measured


def quantize(source: Path, path: Path, plan: Plan, ranges: Ranges) -> dict[str, Any]:
    """Write the fp32 artifact `source` to `path`, quantized, with the same inputs and outputs in float32.

    Weights that still exceed 2 GiB go into `path` + `.data`.

    Args:
        source: as the exporter wrote it.
        path: the file to write.
        plan: the scheme of each layer.
        ranges: of the tensors that `tensors` names.

    Returns:
        `layers`, the scheme of each layer by name; `unknown`, the operations with a weight of two axes or more that is
        no layer's; `operations`, the number of operations of each type with integer weights or activations. For an
        NPU also `activations`: the number of operations of each type in `uint8`, `uint16` and `float`.

    Raises:
        UsageError: the plan's recipe has a scheme that ONNX Runtime lacks.
        ExportError: the range of an activation is missing or not finite, ONNX Runtime's quantizer fails, or a graph for
            an NPU has no fixed shapes.
    """
    model = onnx.load(source)
    found = _named_layers(model.graph, plan)
    if found.for_npu:
        return _quantize_for_npu(model, found, path, ranges)
    region = int8_region(model.graph, found.with_scheme("w8a8"))
    by_tensor = _ranges_of(region, model.graph, ranges)
    kinds = Counter(layer.kind for layer, _, scheme in found.layers if scheme != FLOAT)
    kinds.update(str(node.op_type) for node in region.pass_through)
    try:
        with no_logging():
            _change(model, found, region, by_tensor, plan)
    except Exception as error:  # the quantizer's own errors have no common class
        raise ExportError(f"ONNX Runtime's quantizer failed on {source.name}: {first_line(error)}") from error
    _save(model, path)
    schemes = {name: scheme for _, name, scheme in found.layers}
    return {"layers": schemes, "unknown": found.unknown, "operations": dict(sorted(kinds.items()))}


def _quantize_for_npu(model: ModelProto, found: NamedLayers, path: Path, ranges: Ranges) -> dict[str, Any]:
    """Write a graph whole in integers; see `quantize`."""
    layout = layout_of(model.graph, found.schemes)
    writer = NpuWriter(model.graph, layout, ranges)
    writer.write()
    _tidy(model)
    _save(model, path)
    names = {id(layer): name for layer, name, _ in found.layers}
    integers = writer.activations["uint8"] + writer.activations["uint16"]
    return {
        "layers": {names[id(layer)]: scheme for layer, scheme in schemes_in(layout)},
        "unknown": found.unknown,
        "operations": dict(sorted(integers.items())),
        "activations": {name: dict(sorted(each.items())) for name, each in writer.activations.items()},
    }


def _change(model: ModelProto, found: NamedLayers, region: Int8Region, ranges: Mapping[str, Range], plan: Plan) -> None:
    """Carry out the scheme of every layer, in place."""
    rewriter = WeightRewriter(model.graph)
    for layer in found.with_scheme("w8"):
        rewriter.apply_w8(layer)
    for layer in found.with_scheme("dynamic"):
        rewriter.apply_dynamic(layer)
    for layer in found.with_scheme("w4"):
        rewriter.apply_w4(layer)
    if region.layers:
        scales = [rewriter.round_weight(layer) for layer in region.layers]
        quantize_activations(model, region, ranges, scales, plan.arm)
    _tidy(model)


def _named_layers(graph: GraphProto, plan: Plan) -> NamedLayers:
    layers, unknown = [], []
    for layer in layers_of(graph):
        name = plan.layer(layer.weight)
        if name is None:
            unknown.append(str(layer.node.name))
        else:
            layers.append((layer, name, plan.recipe.scheme_of(name)))
    if is_for_npu([scheme for _, _, scheme in layers]):
        for _, name, scheme in layers:
            if scheme != FLOAT and scheme not in BITS:
                raise UsageError(
                    f"layer {name} has the scheme {scheme!r} in a graph for an NPU: choose one of "
                    f"{', '.join((FLOAT, *BITS))}"
                )
        return NamedLayers(layers, unknown)
    return NamedLayers(
        [(layer, name, _supported_scheme(layer, name, scheme)) for layer, name, scheme in layers], unknown
    )


def _supported_scheme(layer: OnnxLayer, name: str, requested: str) -> str:
    """The scheme that a layer gets for the one that the recipe requests."""
    if requested in (FLOAT, "w8"):
        return requested
    if requested in ("dynamic", "w4"):
        return requested if layer.is_plain_product else "w8"
    if requested == "w8a8":
        return requested if layer.is_plain_product or layer.kind == "Conv" else "w8"
    raise UsageError(
        f"ONNX Runtime has no scheme {requested!r} for layer {name}: choose one of fp32, w8, dynamic, w8a8, w8a16, w4, "
        "npu"
    )


def _ranges_of(region: Int8Region, graph: GraphProto, ranges: Ranges) -> dict[str, Range]:
    """Ranges of all quantized activations; those before a `Relu` or `Clip` are cut to its limits.

    Raises:
        ExportError: a range is missing or not finite.
    """
    constants = {each.name: each for each in graph.initializer}
    limits = {str(node.output[0]): limits_of(node, constants) for node in region.pass_through if node.op_type in BOUNDS}
    found: dict[str, Range] = {}
    for name in reversed(region.tensors):  # a bounded tensor comes before its bound
        measured = found[region.bounded[name]] if name in region.bounded else ranges.get(name)
        if measured is None:
            raise ExportError(f"no range for the activation {name!r}: calibrate with samples of this file")
        if not (isfinite(measured.low) and isfinite(measured.high) and measured.low <= measured.high):
            raise ExportError(f"the range of {name!r} is {measured.low} to {measured.high}: keep its layer in fp32")
        low, high = limits.get(name) or (measured.low, measured.high)
        found[name] = Range(max(measured.low, low), min(measured.high, high))
    return found


def _tidy(model: ModelProto) -> None:
    """Sort the operations, declare ONNX Runtime's domain, and remove unused constants and descriptions."""
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
