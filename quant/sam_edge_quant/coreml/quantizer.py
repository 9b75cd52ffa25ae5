"""Core ML packages (ML Program, iOS 17) to smaller ones, through coremltools.

`w8` keeps weights in int8 with a scale for each channel, `w4` in a table of sixteen numbers with four bits for each
weight, and both are computed in float. `w8a8` computes in int8 as well, which the Neural Engine does faster from A17
Pro and M4 on (https://apple.github.io/coremltools/docs-guides/source/opt-quantization-perf.html); on other hardware it
costs time. Ranges of activations come from the MIL evaluator, so no Mac is needed.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_edge_quant.plan import Plan
from sam_edge_quant.ranges.ranges import Ranges, Sample, Tell
from sam_edge_quant.recipe import FLOAT
from sam_edge_runtime.arrays import Array
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.mil import Program, read_package
from sam_edge_runtime.mil.package import CONSTEXPR, Operation, Package, Reference
from sam_edge_runtime.mil.program import references

from .graph import ACTIVATIONS, CORES, GLUE, MOVES, Layer, activations_of, in_int8, layers_of, shared
from .passes import failing_as, load, operation_names, palettize_weights, quantize_activations, quantize_weights

# What the Neural Engine is taken to compute in int8. Apple publishes no list of it; these are the operations that its
# tools put between dequantize and quantize, for that hardware. coremltools 9.0, by file under its own folder:
_IN_PROGRAMS = "optimize/coreml/_quantization_passes.py: insert_prefix_quantize_dequantize_pair.SUPPORTED_OP_TYPES"
_AFTERWARDS = "converters/mil/mil/passes/defs/optimize_activation_quantization.py: _allowed_activations"
_IN_TRAINING = "optimize/torch/quantization/_backend_config.py: patterns that are registered there"
_IN_ONE_RANGE = f"{_IN_TRAINING}, with one scale for inputs and output; or moves numbers without computing"
INT8_ON_NEURAL_ENGINE: dict[str, str] = {
    **dict.fromkeys(MOVES, _IN_ONE_RANGE),
    **dict.fromkeys(("conv_transpose", "matmul", "mul", "sub"), _IN_TRAINING),
    **dict.fromkeys(ACTIVATIONS, _AFTERWARDS),
    **dict.fromkeys(CORES | GLUE, _IN_PROGRAMS),
}
# What makes the weight of a layer, by its way.
_COMPRESSED: dict[str, set[str]] = {
    FLOAT: set(),
    "w8": {"constexpr_affine_dequantize"},
    "w8a8": {"constexpr_affine_dequantize"},
    "w4": {"constexpr_lut_to_dense"},
}
_LEFT_BEHIND = "executorch_debug_handle_mapping.json"  # coremltools 9 writes it; nothing reads it


def tensors(path: Path, plan: Plan) -> Sequence[str]:
    """Names of the activations that `plan` needs ranges of.

    Raises:
        BundleError: the package is damaged.
        ExportError: its weights are compressed already.
    """
    package = read_package(path)
    return activations_of(package, in_int8(package, layers_of(package, plan)))


def observer(path: Path, names: Sequence[str]) -> Callable[[Sample, Tell], None]:
    """A function that runs the package at `path` by the MIL evaluator and tells the named tensors' values."""
    package = read_package(path)
    program, wanted = Program(package), frozenset(names)

    def observe(sample: Sample, tell: Tell) -> None:
        def watch(operation: Operation, _: dict[str, Any], made: tuple[Array, ...]) -> None:
            for name, array in zip(operation.outputs, made, strict=True):
                if name in wanted:
                    tell(name, array)

        for name in wanted.intersection(package.inputs):
            tell(name, sample[name])
        program.run(sample, watch)

    return observe


def quantize(source: Path, destination: Path, plan: Plan, ranges: Ranges) -> dict[str, Any]:
    """Write a smaller package by a plan.

    Args:
        source: a package in fp32; one in fp16 will do where the plan knows its rounded weights.
        destination: the `.mlpackage` folder to write; inputs, outputs and descriptions are those of `source`.
        plan: the layers' ways.
        ranges: of the tensors that `tensors` names; more do no harm.

    Returns:
        `layers`: the way that each was given. That is not the one asked for where coremltools has no int8 form of an
        operation (`w8` for `w8a8`), or where a weight has fewer than ten numbers (`fp32`).
        `unknown`: operations with a weight that is no layer's, which stay as they are.
        `operations`: how many of each kind there are.
        `not_int8_on_neural_engine`: what the Neural Engine is not known to compute in int8, among layers asked to be,
        and among what lies between two int8 tensors.

    Raises:
        ExportError: Core ML has no such way, a range is missing, the weights are compressed already, coremltools
            failed, or its result is not what was asked for.
    """
    package = read_package(source)
    layers = layers_of(package, plan)
    for layer in layers:
        if layer.way not in _COMPRESSED:
            raise ExportError(f"{layer.name} cannot be {layer.way} in Core ML: choose one of {', '.join(_COMPRESSED)}")
    operations = in_int8(package, layers)
    known = shared(package, activations_of(package, operations), ranges)
    if any(layer.way != FLOAT for layer in layers):
        with failing_as(source.name):
            _write(source, destination, package, layers, operations, known)
        (destination / _LEFT_BEHIND).unlink(missing_ok=True)
    else:
        shutil.copytree(source, destination)
    made = read_package(destination)
    _check(package, made, layers, destination)
    return {
        "layers": {layer.name: layer.way for layer in layers if layer.name is not None},
        "unknown": [_title(layer.operation) for layer in layers if layer.name is None],
        "operations": dict(sorted(Counter(operation.kind for operation in made.operations).items())),
        "not_int8_on_neural_engine": _in_float(made, layers),
    }


def _write(
    source: Path,
    destination: Path,
    package: Package,
    layers: Sequence[Layer],
    operations: Sequence[Operation],
    ranges: Ranges,
) -> None:
    model = load(source)
    names = operation_names(model)
    dtypes = {name: dtype for name, (_, dtype) in package.inputs.items()}
    for operation in package.operations:
        dtypes.update(zip(operation.outputs, operation.dtypes, strict=True))
    if operations:
        chosen = [names[operation.outputs[0]] for operation in operations]
        model = quantize_activations(model, chosen, ranges, dtypes)
    for ways, change in (({"w8", "w8a8"}, quantize_weights), ({"w4"}, palettize_weights)):
        chosen = [names[layer.output] for layer in layers if layer.way in ways]
        if chosen:
            model = change(model, chosen)
    model.save(str(destination))


def _check(before: Package, after: Package, layers: Sequence[Layer], path: Path) -> None:
    """Whether inputs and outputs are the same, and every layer is what it was to be.

    Raises:
        ExportError: they are not.
    """
    if (before.inputs, before.outputs) != (after.inputs, after.outputs):
        raise ExportError(f"coremltools changed inputs or outputs of {path.name}: {after.inputs}, {after.outputs}")
    makers = {output: operation for operation in after.operations for output in operation.outputs}
    for layer in layers:
        if not _is_as_asked(layer.way, makers, layer.output):
            raise ExportError(f"coremltools did not give {_title(layer.operation)} of {path.name} the way {layer.way}")


def _is_as_asked(way: str, makers: Mapping[str, Operation], output: str) -> bool:
    """Whether what makes `output` has a weight of that way, and for `w8a8` a quantized input."""
    if output not in makers:
        return False
    kinds = {
        name: makers[value.name].kind
        for name, value in makers[output].inputs.items()
        if isinstance(value, Reference) and value.name in makers
    }
    compressed = {kind for kind in kinds.values() if kind.startswith(CONSTEXPR)}
    return compressed == _COMPRESSED[way] and (way != "w8a8" or kinds["x"] == "dequantize")


def _in_float(made: Package, layers: Sequence[Layer]) -> list[str]:
    """What is not computed in int8 though it could be meant to."""
    found = [_title(layer.operation) for layer in layers if layer.asked == "w8a8" and layer.way != "w8a8"]
    dequantized = {each.outputs[0] for each in made.operations if each.kind == "dequantize"}
    quantized = {name for each in made.operations if each.kind == "quantize" for name in references(each)}
    for operation in made.operations:
        if operation.kind in MOVES and dequantized.issuperset(references(operation)):
            dequantized.update(operation.outputs)
    for operation in reversed(made.operations):
        if operation.kind in MOVES and quantized.intersection(operation.outputs):
            quantized.update(references(operation))
    for operation in made.operations:
        between = dequantized.intersection(references(operation)) and quantized.intersection(operation.outputs)
        if between and operation.kind not in INT8_ON_NEURAL_ENGINE:
            found.append(_title(operation))
    return found


def _title(operation: Operation) -> str:
    return f"{operation.kind} '{operation.outputs[0]}'"
