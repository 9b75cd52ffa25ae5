"""The layers of an ML Program, and the INT8 region around those with the scheme `w8a8`.

Layers with `w8a8` are computed in INT8, and so are pass-through operations between them: an addition or a pooling whose
inputs all come from INT8 operations, and whose output goes to one. An activation function belongs to the operation
before it. Operations that only move values, such as a concatenation, have one range for all inputs and outputs, so that
integers pass through unchanged. coremltools does the same for concatenations
(`optimize/coreml/experimental/_post_training_quantization.py`, `_adjust_concat_surrounding_activation_stats`) and, in
training, for poolings (`optimize/torch/quantization/_backend_config.py`, `_share_observer_configs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from sam_edge_quant.plan import Plan
from sam_edge_quant.ranges.ranges import Range, Ranges
from sam_edge_quant.recipe import FLOAT
from sam_edge_runtime.arrays import Array
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.mil.package import CONSTEXPR, Operation, Package, Reference
from sam_edge_runtime.mil.program import references

# Operations that may have a weight, with the parameters that may be it.
WEIGHTED: dict[str, tuple[str, ...]] = {
    "conv": ("weight",),
    "conv_transpose": ("weight",),
    "linear": ("weight",),
    "matmul": ("y", "x"),
}
# Operations that coremltools 9.0 surrounds with quantize and dequantize in a finished program
# (`optimize/coreml/_quantization_passes.py`, `insert_prefix_quantize_dequantize_pair.SUPPORTED_OP_TYPES`), ...
CORES = frozenset({"conv", "linear"})
PASS_THROUGH = frozenset({"add", "avg_pool", "max_pool"})
# ... and those that may come between one of them and the quantize after it, "for more fusions on hardware"
# (`converters/mil/mil/passes/defs/optimize_activation_quantization.py`, `_allowed_activations`).
ACTIVATIONS = frozenset({"hard_sigmoid", "leaky_relu", "relu", "relu6", "scaled_tanh", "sigmoid", "tanh"})
# Operations whose inputs and outputs share one range.
MOVES = frozenset(
    {"avg_pool", "concat", "expand_dims", "max_pool", "pad", "reshape", "squeeze", "transpose"}
    | {"upsample_nearest_neighbor"}
)
SMALLEST = 10  # elements of a weight; coremltools stores smaller ones in the program and does not compress them


@dataclass(frozen=True)
class MilLayer:
    """An operation with a weight.

    Attributes:
        operation: the operation.
        name: of the layer; None if no layer has its weight.
        requested: the recipe's scheme for it.
        scheme: the scheme that it gets: `w8` for `w8a8` if the operation has no INT8 form, `fp32` if the weight is too
            small to be compressed.
    """

    operation: Operation
    name: str | None
    requested: str
    scheme: str

    @property
    def output(self) -> str:
        """The name of the operation's first output."""
        return self.operation.outputs[0]


def layers_of(package: Package, plan: Plan) -> list[MilLayer]:
    """The operations with a weight, in the program's order.

    Raises:
        ExportError: the weights are compressed already.
    """
    compressed = {
        output
        for operation in package.operations
        if operation.op_type.startswith(CONSTEXPR)
        for output in operation.outputs
    }
    found = []
    for operation in package.operations:
        values = [operation.inputs.get(name) for name in WEIGHTED.get(operation.op_type, ())]
        if any(isinstance(value, Reference) and value.name in compressed for value in values):
            raise ExportError(
                f"the weight of {operation.op_type} '{operation.outputs[0]}' is compressed already: "
                "quantize the artifact that was exported in fp32"
            )
        weights = [value for value in values if isinstance(value, np.ndarray) and value.ndim > 1]
        if weights:
            requested = plan.scheme(weights[0])
            scheme = _supported_scheme(requested, operation, weights[0])
            found.append(MilLayer(operation, plan.layer(weights[0]), requested, scheme))
    return found


def _supported_scheme(requested: str, operation: Operation, weight: Array) -> str:
    if weight.size < SMALLEST:
        return FLOAT
    if requested == "w8a8" and not (operation.op_type in CORES and isinstance(operation.inputs["x"], Reference)):
        return "w8"
    return requested


def int8_operations(package: Package, layers: Iterable[MilLayer]) -> list[Operation]:
    """The operations that are computed in INT8: layers, and pass-through operations between them."""
    layered = {layer.output for layer in layers if layer.scheme == "w8a8"}
    made: set[str] = set()  # outputs of INT8 operations
    for operation in package.operations:
        read = references(operation)
        if operation.outputs[0] in layered or (read and _passes_through(operation) and made.issuperset(read)):
            made.update(operation.outputs)
    needed: set[str] = set()  # inputs of INT8 operations
    found = []
    for operation in reversed(package.operations):
        output = operation.outputs[0]
        between = output in made and output in needed
        if output in layered or (between and operation.op_type in PASS_THROUGH):
            found.append(operation)
        if output in layered or between:
            needed.update(references(operation))
    return found[::-1]


def _passes_through(operation: Operation) -> bool:
    """Whether an operation may lie between INT8 operations; the addition of a constant may not."""
    if operation.op_type == "add":
        return len(references(operation)) == 2
    return operation.op_type in PASS_THROUGH | ACTIVATIONS | MOVES


def activations_of(package: Package, operations: Sequence[Operation]) -> list[str]:
    """Names of the tensors whose ranges INT8 operations need: inputs and outputs.

    Where an activation function follows, its output counts too.
    """
    made = {operation.outputs[0] for operation in operations}
    found = [name for operation in operations for name in (*references(operation), operation.outputs[0])]
    for operation in package.operations:
        if operation.op_type in ACTIVATIONS and made.intersection(references(operation)):
            found.append(operation.outputs[0])
    return list(dict.fromkeys(found))


def shared_ranges(package: Package, names: Iterable[str], ranges: Ranges) -> dict[str, Range]:
    """Ranges of the named tensors; tensors before and after an operation of `MOVES` get one range that holds all.

    Raises:
        ExportError: a range is missing or not finite.
    """
    known = {name: _checked(name, ranges) for name in names}
    groups: dict[str, set[str]] = {}
    for operation in package.operations:
        if operation.op_type in MOVES:
            touched = (*references(operation), *operation.outputs)
            together = set().union(*(groups.get(name, {name}) for name in touched))
            groups.update(dict.fromkeys(together, together))
    return {name: _widest(known, groups.get(name, {name})) for name in known}


def _checked(name: str, ranges: Ranges) -> Range:
    if name not in ranges:
        raise ExportError(f"no range for the activation '{name}': calibrate with samples of this package")
    found = ranges[name]
    if not (isfinite(found.low) and isfinite(found.high) and found.low <= found.high):
        raise ExportError(
            f"the range of '{name}' is {found.low} to {found.high}, which no scale covers: calibrate again"
        )
    return found


def _widest(known: Mapping[str, Range], group: Iterable[str]) -> Range:
    members = [known[name] for name in group if name in known]
    return Range(min(each.low for each in members), max(each.high for each in members))
