"""Core ML packages (ML Program, iOS 17), quantized through coremltools.

`w8` stores weights in int8 with a scale for each channel, `w4` as 4-bit indices into a palette of 16 values; both are
computed in float. `w8a8` computes in int8 as well. The Neural Engine does that faster from A17 Pro and M4 on
(https://apple.github.io/coremltools/docs-guides/source/opt-quantization-perf.html); other hardware does it more slowly.
Ranges of activations come from the MIL evaluator, so no Mac is needed.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_edge_quant.plan import Plan
from sam_edge_quant.ranges.ranges import Ranges, Receive
from sam_edge_quant.recipe import FLOAT
from sam_edge_runtime.arrays import Array, Call
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.mil import Program, read_package
from sam_edge_runtime.mil.package import CONSTEXPR, Operation, Package, Reference
from sam_edge_runtime.mil.program import references

from .graph import (
    ACTIVATIONS,
    CORES,
    MOVES,
    PASS_THROUGH,
    MilLayer,
    activations_of,
    int8_operations,
    layers_of,
    shared_ranges,
)
from .passes import (
    failing_as,
    halve_tables,
    load,
    operation_names,
    palettize_weights,
    quantize_activations,
    quantize_weights,
)

# Operations that the Neural Engine is taken to compute in INT8. Apple publishes no list; these are the operations that
# coremltools 9.0 puts between dequantize and quantize for that hardware. Sources are files under its own folder:
_IN_PROGRAMS = "optimize/coreml/_quantization_passes.py: insert_prefix_quantize_dequantize_pair.SUPPORTED_OP_TYPES"
_AFTERWARDS = "converters/mil/mil/passes/defs/optimize_activation_quantization.py: _allowed_activations"
_IN_TRAINING = "optimize/torch/quantization/_backend_config.py: patterns that are registered there"
_IN_ONE_RANGE = f"{_IN_TRAINING}, with one scale for inputs and output; or moves values without computing"
INT8_ON_NEURAL_ENGINE: dict[str, str] = {
    **dict.fromkeys(MOVES, _IN_ONE_RANGE),
    **dict.fromkeys(("conv_transpose", "matmul", "mul", "sub"), _IN_TRAINING),
    **dict.fromkeys(ACTIVATIONS, _AFTERWARDS),
    **dict.fromkeys(CORES | PASS_THROUGH, _IN_PROGRAMS),
}
# The operation that decompresses a layer's weight, for each scheme.
_COMPRESSED: dict[str, set[str]] = {
    FLOAT: set(),
    "w8": {"constexpr_affine_dequantize"},
    "w8a8": {"constexpr_affine_dequantize"},
    "w4": {"constexpr_lut_to_dense"},
}
_LEFT_BEHIND = "executorch_debug_handle_mapping.json"  # coremltools 9 writes it; nothing reads it


def tensors(path: Path, plan: Plan) -> Sequence[str]:
    """Names of the activations whose ranges a plan needs.

    Raises:
        BundleError: the package is damaged.
        ExportError: its weights are compressed already.
    """
    package = read_package(path)
    return activations_of(package, int8_operations(package, layers_of(package, plan)))


def observer(path: Path, names: Sequence[str]) -> Callable[[Call, Receive], None]:
    """A function that runs the package in the MIL evaluator and passes the values of the named tensors on."""
    package = read_package(path)
    program, wanted = Program(package), frozenset(names)

    def observe(sample: Call, receive: Receive) -> None:
        def watch(operation: Operation, _: dict[str, Any], made: tuple[Array, ...]) -> None:
            for name, array in zip(operation.outputs, made, strict=True):
                if name in wanted:
                    receive(name, array)

        for name in wanted.intersection(package.inputs):
            receive(name, sample[name])
        program.run(sample, watch)

    return observe


def quantize(source: Path, path: Path, plan: Plan, ranges: Ranges) -> dict[str, Any]:
    """Write the package `source` to `path`, quantized.

    Args:
        source: a package in fp32, or in fp16 if the plan has the fingerprints of its rounded weights.
        path: the `.mlpackage` folder to write; inputs, outputs and descriptions are those of `source`.
        plan: the scheme of each layer.
        ranges: of the tensors that `tensors` names; others are ignored.

    Returns:
        `layers`, the scheme of each layer by name; where coremltools lacks an int8 form of an operation that is `w8`
        for `w8a8`, and for a weight of fewer than ten elements `fp32`.
        `unknown`, operations with a weight that is no layer's; they stay as they are.
        `operations`, the number of operations of each kind.
        `not_int8_on_neural_engine`, operations that the Neural Engine is not known to compute in INT8: among layers
        with the scheme `w8a8`, and between two INT8 tensors.

    Raises:
        ExportError: Core ML has no such scheme, a range is missing, the weights are compressed already, or coremltools
            fails or does not carry out a scheme.
    """
    package = read_package(source)
    layers = layers_of(package, plan)
    for layer in layers:
        if layer.scheme not in _COMPRESSED:
            raise ExportError(
                f"Core ML has no scheme {layer.scheme!r} for layer {layer.name}: choose one of {', '.join(_COMPRESSED)}"
            )
    operations = int8_operations(package, layers)
    known = shared_ranges(package, activations_of(package, operations), ranges)
    if any(layer.scheme != FLOAT for layer in layers):
        with failing_as(source.name):
            _quantized(source, package, layers, operations, known).save(str(path))
        (path / _LEFT_BEHIND).unlink(missing_ok=True)
    else:
        shutil.copytree(source, path)
    made = read_package(path)
    _check(package, made, layers, path)
    return {
        "layers": {layer.name: layer.scheme for layer in layers if layer.name is not None},
        "unknown": [_title(layer.operation) for layer in layers if layer.name is None],
        "operations": dict(sorted(Counter(operation.op_type for operation in made.operations).items())),
        "not_int8_on_neural_engine": _in_float(made, layers),
    }


def _quantized(
    source: Path, package: Package, layers: Sequence[MilLayer], operations: Sequence[Operation], ranges: Ranges
) -> Any:
    """Coremltools' model of the package, quantized."""
    model = load(source)
    names = operation_names(model)
    dtypes = {name: dtype for name, (_, dtype) in package.inputs.items()}
    for operation in package.operations:
        dtypes.update(zip(operation.outputs, operation.dtypes, strict=True))
    if operations:
        chosen = [names[operation.outputs[0]] for operation in operations]
        model = quantize_activations(model, chosen, ranges, dtypes)
    for schemes, change in (({"w8", "w8a8"}, quantize_weights), ({"w4"}, palettize_weights)):
        chosen = [names[layer.output] for layer in layers if layer.scheme in schemes]
        if chosen:
            model = change(model, chosen)
    return halve_tables(model)


def _check(before: Package, after: Package, layers: Sequence[MilLayer], path: Path) -> None:
    """Check that inputs and outputs are the same, and that every layer has its scheme.

    Raises:
        ExportError: they differ.
    """
    if (before.inputs, before.outputs) != (after.inputs, after.outputs):
        raise ExportError(f"coremltools changed inputs or outputs of {path.name}: {after.inputs}, {after.outputs}")
    makers = {output: operation for operation in after.operations for output in operation.outputs}
    for layer in layers:
        if not _has_scheme(layer.scheme, makers, layer.output):
            raise ExportError(
                f"coremltools did not give {_title(layer.operation)} of {path.name} the scheme {layer.scheme}"
            )


def _has_scheme(scheme: str, makers: Mapping[str, Operation], output: str) -> bool:
    """Whether the operation that makes `output` has a weight compressed by a scheme and, for `w8a8`, an INT8 input."""
    if output not in makers:
        return False
    kinds = {
        name: makers[value.name].op_type
        for name, value in makers[output].inputs.items()
        if isinstance(value, Reference) and value.name in makers
    }
    compressed = {kind for kind in kinds.values() if kind.startswith(CONSTEXPR)}
    return compressed == _COMPRESSED[scheme] and (scheme != "w8a8" or kinds["x"] == "dequantize")


def _in_float(made: Package, layers: Sequence[MilLayer]) -> list[str]:
    """Operations in float that a recipe or their neighbours suggest for INT8."""
    found = [_title(layer.operation) for layer in layers if layer.requested == "w8a8" and layer.scheme != "w8a8"]
    dequantized = {each.outputs[0] for each in made.operations if each.op_type == "dequantize"}
    quantized = {name for each in made.operations if each.op_type == "quantize" for name in references(each)}
    for operation in made.operations:
        if operation.op_type in MOVES and dequantized.issuperset(references(operation)):
            dequantized.update(operation.outputs)
    for operation in reversed(made.operations):
        if operation.op_type in MOVES and quantized.intersection(operation.outputs):
            quantized.update(references(operation))
    for operation in made.operations:
        between = dequantized.intersection(references(operation)) and quantized.intersection(operation.outputs)
        if between and operation.op_type not in INT8_ON_NEURAL_ENGINE:
            found.append(_title(operation))
    return found


def _title(operation: Operation) -> str:
    return f"{operation.op_type} '{operation.outputs[0]}'"
