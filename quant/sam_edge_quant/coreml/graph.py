"""What a plan means for the operations of an ML Program: which hold layers, and which are computed in eight bits.

Layers with the way `w8a8` are computed in eight bits, and so is what lies between them: an addition or a pooling whose
inputs all come from such operations, and whose result goes to one. An activation function belongs to the operation
before it. What only moves numbers, as a concatenation does, has its inputs and its output in one range, so that the
numbers pass through it as they are; coremltools does the same for concatenations
(`optimize/coreml/experimental/_post_training_quantization.py`, `_adjust_concat_surrounding_activation_stats`) and, when
it trains, for poolings (`optimize/torch/quantization/_backend_config.py`, `_share_observer_configs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_quant.plan import Plan
from sam_edge_quant.ranges.ranges import Range, Ranges
from sam_edge_quant.recipe import FLOAT
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.mil.package import CONSTEXPR, Operation, Package, Reference
from sam_edge_runtime.mil.program import references

# Operations with a weight: the parameters that may be it.
WEIGHTED: dict[str, tuple[str, ...]] = {
    "conv": ("weight",),
    "conv_transpose": ("weight",),
    "linear": ("weight",),
    "matmul": ("y", "x"),
}
# What coremltools 9.0 surrounds with quantize and dequantize in a finished program
# (`optimize/coreml/_quantization_passes.py`, `insert_prefix_quantize_dequantize_pair.SUPPORTED_OP_TYPES`), ...
CORES = frozenset({"conv", "linear"})
GLUE = frozenset({"add", "avg_pool", "max_pool"})
# ... and what may come between one of them and the quantize after it, "for more fusions on hardware"
# (`converters/mil/mil/passes/defs/optimize_activation_quantization.py`, `_allowed_activations`).
ACTIVATIONS = frozenset({"hard_sigmoid", "leaky_relu", "relu", "relu6", "scaled_tanh", "sigmoid", "tanh"})
# What has its inputs and its output in one range.
MOVES = frozenset(
    {"avg_pool", "concat", "expand_dims", "max_pool", "pad", "reshape", "squeeze", "transpose"}
    | {"upsample_nearest_neighbor"}
)
SMALLEST = 10  # numbers that a weight must have: coremltools leaves smaller ones in the program, as they are


@dataclass(frozen=True)
class Layer:
    """An operation with a weight.

    Attributes:
        operation: what it is.
        name: of the layer; None where its weight is no layer's.
        asked: the way that the recipe has for it.
        way: the way that it can have: where there is no eight-bit form of the operation, its weight alone is kept in
            eight bits, and a weight of a few numbers stays as it is.
    """

    operation: Operation
    name: str | None
    asked: str
    way: str

    @property
    def output(self) -> str:
        """The name of what it makes."""
        return self.operation.outputs[0]


def layers_of(package: Package, plan: Plan) -> list[Layer]:
    """The operations with a weight, in their order.

    Raises:
        ExportError: the weights are compressed already.
    """
    compressed = {
        output
        for operation in package.operations
        if operation.kind.startswith(CONSTEXPR)
        for output in operation.outputs
    }
    found = []
    for operation in package.operations:
        given = [operation.inputs.get(name) for name in WEIGHTED.get(operation.kind, ())]
        if any(isinstance(value, Reference) and value.name in compressed for value in given):
            raise ExportError(
                f"the weight of {operation.kind} '{operation.outputs[0]}' is compressed already: "
                "quantize the artifact that was exported in fp32"
            )
        weights = [value for value in given if isinstance(value, np.ndarray) and value.ndim > 1]
        if weights:
            asked = plan.scheme(weights[0])
            found.append(Layer(operation, plan.layer(weights[0]), asked, _possible(asked, operation, weights[0])))
    return found


def _possible(asked: str, operation: Operation, weight: npt.NDArray[Any]) -> str:
    if weight.size < SMALLEST:
        return FLOAT
    if asked == "w8a8" and not (operation.kind in CORES and isinstance(operation.inputs["x"], Reference)):
        return "w8"
    return asked


def in_int8(package: Package, layers: Iterable[Layer]) -> list[Operation]:
    """The operations that are computed in eight bits: layers, and what lies between them."""
    layered = {layer.output for layer in layers if layer.way == "w8a8"}
    made: set[str] = set()  # by operations in eight bits
    for operation in package.operations:
        given = references(operation)
        if operation.outputs[0] in layered or (given and _passes_on(operation) and made.issuperset(given)):
            made.update(operation.outputs)
    needed: set[str] = set()  # by operations in eight bits
    found = []
    for operation in reversed(package.operations):
        output = operation.outputs[0]
        between = output in made and output in needed
        if output in layered or (between and operation.kind in GLUE):
            found.append(operation)
        if output in layered or between:
            needed.update(references(operation))
    return found[::-1]


def _passes_on(operation: Operation) -> bool:
    """Whether an operation may lie between operations in eight bits; an addition of a constant may not."""
    if operation.kind == "add":
        return len(references(operation)) == 2
    return operation.kind in GLUE | ACTIVATIONS | MOVES


def activations_of(package: Package, operations: Sequence[Operation]) -> list[str]:
    """Names of the tensors whose ranges the operations in eight bits need: what goes in, and what comes out.

    What comes out is the result of the activation function where one follows.
    """
    made = {operation.outputs[0] for operation in operations}
    found = [name for operation in operations for name in (*references(operation), operation.outputs[0])]
    for operation in package.operations:
        if operation.kind in ACTIVATIONS and made.intersection(references(operation)):
            found.append(operation.outputs[0])
    return list(dict.fromkeys(found))


def shared(package: Package, names: Iterable[str], ranges: Ranges) -> dict[str, Range]:
    """Ranges of the named tensors; those that lie before and after what moves numbers have one together.

    Raises:
        ExportError: a range is missing, or is no range.
    """
    known = {name: _checked(name, ranges) for name in names}
    groups: dict[str, set[str]] = {}
    for operation in package.operations:
        if operation.kind in MOVES:
            touched = (*references(operation), *operation.outputs)
            together = set().union(*(groups.get(name, {name}) for name in touched))
            groups.update(dict.fromkeys(together, together))
    return {name: _widest(known, groups.get(name, {name})) for name in known}


def _checked(name: str, ranges: Ranges) -> Range:
    if name not in ranges:
        raise ExportError(f"the range of '{name}' is not known: calibrate with the names that `tensors` gives")
    found = ranges[name]
    if not (isfinite(found.low) and isfinite(found.high) and found.low <= found.high):
        raise ExportError(f"'{name}' ranges from {found.low} to {found.high}, which no scale covers: calibrate again")
    return found


def _widest(known: Mapping[str, Range], group: Iterable[str]) -> Range:
    members = [known[name] for name in group if name in known]
    return Range(min(each.low for each in members), max(each.high for each in members))
