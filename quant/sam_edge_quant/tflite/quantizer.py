"""TFLite files through AI Edge Quantizer: whole numbers for chosen operations, float for the rest.

Each operation with a weight gets the way of its layer, known by the weight's numbers; what lies between statically
quantized ones is quantized too (`tflite_graph.between`). Inputs and outputs stay float32. Weights are symmetric with a
scale for each output channel, eight-bit activations asymmetric and sixteen-bit ones symmetric, with one scale for a
tensor, as LiteRT's kernels want them (https://ai.google.dev/edge/litert/models/quantization_spec). Large constants that
are no layer's weight go into float16 (`tflite_tables`).

Ranges of activations come from outside. The quantizer's own calibration, and a check that `Quantizer.quantize` makes
of its result, keep every tensor of the file in memory, which for a ViT-B at 1024 is more than there is; so the two
steps behind it, parameters and rewriting, are called themselves.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_quantizer import model_modifier, params_generator, qtyping, recipe_manager
from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

from sam_edge_quant.methods.weight_scales import preserved_scales
from sam_edge_quant.plan import Plan
from sam_edge_quant.ranges.ranges import Range, Ranges
from sam_edge_quant.recipe import CALIBRATED, FLOAT
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.errors import ExportError, first_line
from sam_edge_runtime.system.quiet import no_logging

from .graph import KEEP_RANGE, Graph, Operation, TfliteFile, between, origin
from .lookup_tables import halve_tables
from .observer import TfliteObserver

observer = TfliteObserver

_ACTIVATION_BITS = {"w8a8": 8, "w8a16": 16}
_WEIGHT_BITS = {"w8": 8, "w4": 4}
# Schemes that the quantizer lacks, or that LiteRT computes outside XNNPACK although a better one is inside: its kernel
# for depthwise convolutions with dynamic ranges is slow.
_INSTEAD = {
    ("DEPTHWISE_CONV_2D", "dynamic"): "w8",
    ("DEPTHWISE_CONV_2D", "w4"): "w8",
    ("TRANSPOSE_CONV", "w4"): "w8",
}
# The axis of a weight with the output channels, each of which has a bias. BATCH_MATMUL has no bias.
_CHANNELS = {"FULLY_CONNECTED": 0, "CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0}
_LARGEST_WEIGHT = 127  # in eight bits, symmetric
_LARGEST_BIAS = 1 << 30  # of the 2^31 of its 32 bits; the rest is for the sum of products
_LEAST_WIDTH = 1e-9  # of a range; below it the quantizer takes a scale that no kernel can compute with


@dataclass(frozen=True)
class _Decision:
    """What becomes of one signature's operations.

    Attributes:
        graph: the operations.
        layers: names of the layers they belong to, by place; None for those that have a weight and no name.
        weighted: the ways of the operations with weights, by place; those that stay in float are left out.
        glue: the ways of quantized operations without weights.
    """

    graph: Graph
    layers: Mapping[int, str | None]
    weighted: Mapping[int, str]
    glue: Mapping[int, str]

    @property
    def static(self) -> list[tuple[Operation, str]]:
        """Operations with weights and quantized activations, with their ways."""
        return [(self.graph.operations[place], way) for place, way in self.weighted.items() if way in CALIBRATED]

    def source(self, operation: Operation) -> str:
        """The tensor whose range is that of the activation which an operation with a weight takes."""
        return origin(self.graph, self.glue, operation.inputs[0])

    @property
    def ranged(self) -> list[str]:
        """Names of the tensors that need a range."""
        made = [operation for operation, _ in self.static]
        made += [self.graph.operations[place] for place in self.glue]
        names = [self.source(operation) for operation, _ in self.static]
        names += [name for operation in made if operation.kind not in KEEP_RANGE for name in operation.outputs]
        return list(dict.fromkeys(names))


def tensors(path: Path, plan: Plan) -> Sequence[str]:
    """Names of the activations of a file whose ranges a plan needs, of all its signatures.

    Raises:
        ExportError: the file cannot be read.
    """
    return [name for decision in _decide(TfliteFile(path), plan) for name in decision.ranged]


def quantize(source: Path, path: Path, plan: Plan, ranges: Ranges) -> dict[str, Any]:
    """Write the fp32 file `source` to `path`, quantized.

    Args:
        source: as the exporter wrote it.
        path: the file to write.
        plan: the way of each layer.
        ranges: of the tensors that `tensors` names.

    Returns:
        `layers`, the name of each layer with the way it was given; `unknown`, the operations with weights that belong
        to no layer, by the tensor they make; `operations`, the number of quantized operations of each kind.

    Raises:
        ExportError: a range is missing or not finite, the file gives a tensor that it also computes with quantized, or
            the quantizer fails.
    """
    file = TfliteFile(source)
    decisions = _decide(file, plan)
    _check_results(decisions)
    statistics = _statistics(file, decisions, ranges)
    manager = recipe_manager.RecipeManager()
    for (kind, way), scopes in _scopes(decisions).items():
        _add(manager, kind, way, scopes)
    halve_tables(file)
    with no_logging():  # the quantizer logs what it does with each shared weight
        try:
            generator = params_generator.ParamsGenerator(file.model)
            parameters = generator.generate_quantization_parameters(manager, statistics, enable_progress_bar=False)
            modifier = model_modifier.ModelModifier(file.model)
            modifier.modify_model(parameters, serialize_to_path=str(path), enable_progress_bar=False)
        except Exception as error:  # the quantizer's own errors have no common class
            raise ExportError(f"ai-edge-quantizer failed on {source.name}: {first_line(error)}") from error
    return _report(decisions)


def _decide(file: TfliteFile, plan: Plan) -> list[_Decision]:
    known: dict[int, str | None] = {}  # by buffer: signatures share weights, and a digest of a large one takes its time
    decisions = []
    for graph in file.graphs:
        layers: dict[int, str | None] = {}
        for place, operation in enumerate(graph.operations):
            if operation.weight is not None and operation.inputs:
                buffer = file.buffer(operation.weight)
                if buffer not in known:
                    known[buffer] = plan.layer(file.constant(operation.weight))
                layers[place] = known[buffer]
        ways = {
            place: _INSTEAD.get((graph.operations[place].kind, way), way)
            for place, layer in layers.items()
            if layer is not None and (way := plan.recipe.scheme_of(layer)) != FLOAT
        }
        static = {place: way for place, way in ways.items() if way in CALIBRATED}
        decisions.append(_Decision(graph, layers, ways, between(graph, static)))
    return decisions


def _report(decisions: Sequence[_Decision]) -> dict[str, Any]:
    operations: Counter[str] = Counter()
    layers: dict[str, str] = {}
    unknown: list[str] = []
    for decision in decisions:
        kinds = {place: decision.graph.operations[place].kind for place in (*decision.weighted, *decision.glue)}
        operations.update(kinds.values())
        for place, layer in decision.layers.items():
            if layer is None:
                unknown.append(decision.graph.operations[place].outputs[0])
            else:
                layers[layer] = decision.weighted.get(place, FLOAT)
    return {"layers": layers, "unknown": unknown, "operations": dict(sorted(operations.items()))}


def _scopes(decisions: Sequence[_Decision]) -> dict[tuple[str, str], list[str]]:
    """What the quantizer matches operations by, for each kind and way."""
    scopes: dict[tuple[str, str], list[str]] = {}
    for decision in decisions:
        for place, way in (*decision.weighted.items(), *decision.glue.items()):
            operation = decision.graph.operations[place]
            scopes.setdefault((operation.kind, way), []).append(operation.scope)
    return scopes


def _add(manager: Any, kind: str, way: str, scopes: Sequence[str]) -> None:
    """Tell the quantizer the way of some operations of one kind."""
    pattern = f"^(?:{'|'.join(map(re.escape, scopes))})$"
    name = flatbuffer.TFL_OP_CODE_TO_NAME[getattr(qtyping.BuiltinOperator, kind)]
    channels = qtyping.QuantGranularity.CHANNELWISE
    if way in CALIBRATED:
        # LiteRT's BATCH_MATMUL of whole numbers ignores all scales of a weight but one, and answers with zeros.
        grain = qtyping.QuantGranularity.TENSORWISE if kind == "BATCH_MATMUL" else channels
        manager.add_static_config(pattern, name, _ACTIVATION_BITS[way], _WEIGHT_BITS["w8"], grain)
    elif way == "dynamic":
        manager.add_dynamic_config(pattern, name, _WEIGHT_BITS["w8"], channels)
    else:
        manager.add_weight_only_config(pattern, name, _WEIGHT_BITS[way], channels)


def _statistics(file: TfliteFile, decisions: Sequence[_Decision], ranges: Ranges) -> dict[str, dict[str, Float32]]:
    """Ranges in the form of the quantizer's own calibration, of activations and of weights that need a wider one."""
    found = _shared(file, decisions, {name: _range(name, ranges) for each in decisions for name in each.ranged})
    bounds = _weight_bounds(file, decisions, found)
    activations = {name: (np.float32(each.low), np.float32(each.high)) for name, each in found.items()}
    weights = {name: (-bound, bound) for name, bound in bounds.items()}
    return {
        name: {"min": np.asarray(low), "max": np.asarray(high)} for name, (low, high) in (activations | weights).items()
    }


def _range(name: str, ranges: Ranges) -> Range:
    """A range with which a kernel can compute.

    Raises:
        ExportError: there is none, or it is not finite.
    """
    if name not in ranges:
        raise ExportError(f"no range for the tensor {name!r}: calibrate with samples of this file")
    low, high = ranges[name].low, ranges[name].high
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ExportError(f"the range of the tensor {name!r} is {low} to {high}: keep its layer in fp32")
    if max(high, 0.0) - min(low, 0.0) < _LEAST_WIDTH:  # nothing but zeros, which every range has
        return Range(0.0, 1.0)
    return Range(low, high)


def _shared(file: TfliteFile, decisions: Sequence[_Decision], ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges with those of different signatures made one where they belong to the same weight.

    Else biases, whose scale is the product of the activation's and the weight's, would be there once a signature, and
    the signatures' answers would differ.
    """
    groups: dict[tuple[int, bool], set[str]] = {}
    for decision in decisions:
        for operation, _ in decision.static:
            buffer = file.buffer(operation.weight or "")
            groups.setdefault((buffer, True), set()).add(decision.source(operation))
            groups.setdefault((buffer, False), set()).update(operation.outputs)
    found = dict(ranges)
    changed = len(decisions) > 1
    while changed:
        changed = False
        for names in groups.values():
            widest = Range(min(found[name].low for name in names), max(found[name].high for name in names))
            changed |= any(found[name] != widest for name in names)
            found.update(dict.fromkeys(names, widest))
    return found


def _weight_bounds(file: TfliteFile, decisions: Sequence[_Decision], ranges: Mapping[str, Range]) -> dict[str, Float32]:
    """Bounds of the weights of quantized operations, for those where a channel's own is too small.

    A bias is stored in 32 bits with a scale that is the product of the activation's and the channel's. A channel whose
    weights are all zero, or nearly, has hardly any scale: the quantizer's bias overflows, and comes out small and with
    the wrong sign. So a channel's scale is made large enough for its bias; its weights were nothing beside it. Weights
    that lie on a grid already keep it, which takes a wider bound as well.

    Returns:
        The largest absolute value for each output channel, by the weight's name, of the weight's rank.
    """
    least: dict[int, Float32] = {}  # by buffer: one that signatures share has to serve them all
    names: dict[str, tuple[int, Float32]] = {}
    for decision in decisions:
        for place, way in decision.weighted.items():
            operation = decision.graph.operations[place]
            if operation.weight is None or operation.kind not in _CHANNELS or way == "w4":
                continue
            axis, weight = _CHANNELS[operation.kind], file.constant(operation.weight)
            others = tuple(each for each in range(weight.ndim) if each != axis)
            largest = np.abs(weight).max(axis=others)
            bound = np.where(largest > 0, _LARGEST_WEIGHT * preserved_scales(np.moveaxis(weight, axis, 0)), 0.0)
            if operation.bias is not None and way in CALIBRATED:
                scale = _scale(ranges[decision.source(operation)], _ACTIVATION_BITS[way])
                least_scale = np.abs(file.constant(operation.bias)) / (scale * _LARGEST_BIAS)
                bound = np.maximum(bound, _LARGEST_WEIGHT * least_scale)
            bound = np.expand_dims(bound.astype(np.float32), others)
            buffer = file.buffer(operation.weight)
            names[operation.weight] = buffer, np.expand_dims(largest, others)
            least[buffer] = np.maximum(least.get(buffer, bound), bound)
    return {name: least[buffer] for name, (buffer, own) in names.items() if (least[buffer] > own).any()}


def _scale(each: Range, bits: int) -> float:
    """The step of an activation: asymmetric and with zero in eight bits, symmetric in sixteen."""
    if bits == _ACTIVATION_BITS["w8a16"]:
        return max(abs(each.low), abs(each.high)) / ((1 << (bits - 1)) - 1)
    return (max(each.high, 0.0) - min(each.low, 0.0)) / ((1 << bits) - 1)


def _check_results(decisions: Sequence[_Decision]) -> None:
    """Whether the quantizer can leave what a file gives in float.

    It writes a broken file where what a signature gives is an input of one of its operations too, and either is
    quantized: no dequantization is put before the output, or it is put before the operation's quantized input as well.

    Raises:
        ExportError: it cannot.
    """
    for decision in decisions:
        graph = decision.graph
        quantized = {place for place, way in decision.weighted.items() if way in CALIBRATED} | set(decision.glue)
        for name in sorted(graph.results):
            takers = graph.takers.get(name, [])
            if takers and not quantized.isdisjoint({*takers, graph.makers.get(name, -1)}):
                raise ExportError(
                    f"AI Edge Quantizer breaks a file that gives a tensor and computes on with it, here {name!r}: "
                    "keep the layers that make and take it in fp32"
                )
