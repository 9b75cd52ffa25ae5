"""A traced graph and its contract to a Core ML package (ML Program, iOS 17), through coremltools.

coremltools converts on Linux too, but predicts on a Mac only; the runtime's own evaluator checks the numbers
(`sam_edge_runtime.mil`). Shapes are fixed, as the Neural Engine needs, unless the contract has free axes.

Precision: `fp32`, `fp16`, or `mixed`. The last converts to fp32 first, measures which operations are unsafe in float16
(`coreml_fp16_sensitivity`), and keeps those in float32. Inputs and outputs are float32 in all three.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import torch
from torch import nn

from sam_edge_runtime.bundle.contract import GraphContract, TensorSpec
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.mil import read_package
from sam_edge_runtime.mil.package import MAIN
from sam_edge_runtime.system.quiet import (
    captured_errors,
    captured_stderr,
    no_logging,
    no_progress_bars,
    quiet,
    root_cause,
)

from .conversion import PLAIN, Conversion, Inspection, Metadata
from .coreml_fp16_sensitivity import fp16_unsafe_operations
from .tracing import EXAMPLE_SIZES, free_axes, traced

TARGET = ct.target.iOS17
AUTHOR = "sam-edge"
UNSAFE = "sam-edge.float32"  # metadata key: operations that a mixed package keeps in float32, with reasons
MOST_IN_A_CALL = 64  # prompts, or slots, of a flexible package: Core ML needs an upper bound
_PICTURE = "image"
_LEFT_BEHIND = "executorch_debug_handle_mapping.json"  # coremltools 9 writes it; nothing reads it
_LOGGERS = ("torch", "coremltools")
_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r".*", DeprecationWarning),  # coremltools' use of its own old functions
    (r".*", RuntimeWarning),  # numpy's, while coremltools folds constants
)


def export(graph: nn.Module, contract: GraphContract, path: Path, conversion: Conversion = PLAIN) -> None:
    """Write `graph` to the package `path`.

    Args:
        graph: a module whose forward takes and returns the contract's tensors in order.
        contract: names and shapes; meanings become the package's descriptions.
        path: the `.mlpackage` folder to write.
        conversion: precision, metadata and the photo's form.

    Raises:
        ExportError: the graph cannot be converted, the package breaks the contract, or `mixed` has no samples.
    """
    if conversion.precision == "mixed" and not conversion.samples:
        raise ExportError(f"mixed precision of {path.stem} is measured on samples: pass some with Conversion")
    logged: Callable[[], str] = str  # the last error, which names the operation
    try:
        with (
            captured_stderr(),
            no_logging(),  # coremltools logs its progress to the root
            no_progress_bars(),
            quiet(_LOGGERS, _EXPECTED_WARNINGS),
            captured_errors("coremltools") as logged,
        ):
            program = traced(graph, contract, MOST_IN_A_CALL)
            _spell_out_tanh_gelu(program.graph_module)
            unsafe: dict[str, str] = {}
            if conversion.precision == "mixed":
                unsafe = _measure(_convert(program, contract, ct.precision.FLOAT32, conversion), conversion)
            model = _convert(program, contract, _precision(conversion.precision, unsafe), conversion)
            _describe(model, contract, conversion.metadata, unsafe)
            model.save(str(path))
    except Exception as error:  # the converter's own errors have no common class
        where = f"; it logged: {logged()}" if logged() else ""
        raise ExportError(f"coremltools failed on {path.stem}: {root_cause(error)}{where}") from error
    (path / _LEFT_BEHIND).unlink(missing_ok=True)
    check(path, contract)


def _spell_out_tanh_gelu(module: torch.fx.GraphModule) -> None:
    """Replace GELU's tanh form by its operations, which coremltools joins again.

    It reads no keyword arguments, and would compute the exact form without an error.
    """
    aten = torch.ops.aten
    for node in module.graph.find_nodes(op="call_function", target=aten.gelu.default):
        if node.kwargs.get("approximate") != "tanh":
            continue
        x = node.args[0]

        def add(target: Any, *args: Any, like: torch.fx.Node = node) -> torch.fx.Node:
            made: torch.fx.Node = module.graph.call_function(target, args)
            made.meta = dict(like.meta)
            return made

        with module.graph.inserting_before(node):
            cubic = add(aten.mul.Tensor, add(aten.pow.Tensor_Scalar, x, 3), 0.044715)
            inner = add(aten.mul.Tensor, add(aten.add.Tensor, x, cubic), math.sqrt(2 / math.pi))
            share = add(aten.mul.Tensor, add(aten.add.Tensor, add(aten.tanh.default, inner), 1.0), 0.5)
        node.target, node.args, node.kwargs = aten.mul.Tensor, (x, share), {}  # outputs are known by their nodes' names
    module.recompile()


def _convert(program: Any, contract: GraphContract, precision: Any, conversion: Conversion) -> Any:
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=TARGET,
        compute_precision=precision,
        inputs=_inputs(contract, as_picture=conversion.picture_input),
        outputs=[ct.TensorType(name=spec.name, dtype=np.float32) for spec in contract.outputs],
        skip_model_load=True,
    )


def _precision(name: str, unsafe: dict[str, str]) -> Any:
    if name == "fp32":
        return ct.precision.FLOAT32
    if not unsafe:
        return ct.precision.FLOAT16
    return ct.transform.FP16ComputePrecision(op_selector=_safe(unsafe))


def _safe(unsafe: dict[str, str]) -> Callable[[Any], bool]:
    """A test whether an operation may be in float16; names are the same in every conversion of a program."""
    return lambda operation: not any(output.name in unsafe for output in operation.outputs)


def _measure(model: Any, conversion: Conversion) -> dict[str, str]:
    """The unsafe operations of a float32 model, with reasons."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"fp32{TARGETS['coreml'].suffix}"
        model.save(str(path))
        return fp16_unsafe_operations(read_package(path), conversion.samples)


def check(path: Path, contract: GraphContract) -> None:
    """Read the package again and compare its inputs and outputs with the contract.

    Raises:
        ExportError: an input or output differs.
    """
    description = ct.utils.load_spec(str(path)).description
    for specs, found in ((contract.inputs, description.input), (contract.outputs, description.output)):
        want = {spec.name: _known(spec) for spec in specs}
        have = {each.name: tuple(each.type.multiArrayType.shape) for each in found}
        # coremltools does not always write an output's shape.
        if want.keys() != have.keys() or any(have[name] not in {(), want[name]} for name in want):
            raise ExportError(f"{path.name} has {have}, the contract has {want}")


def _known(spec: TensorSpec) -> tuple[int, ...]:
    """The shape, with the default sizes of flexible axes."""
    return tuple(EXAMPLE_SIZES[size] if isinstance(size, str) else size for size in spec.shape)


def _inputs(contract: GraphContract, *, as_picture: bool) -> list[Any]:
    axes = {
        letter: ct.RangeDim(1, MOST_IN_A_CALL, default=EXAMPLE_SIZES[letter], symbol=letter)
        for letter in free_axes(contract)
    }
    return [
        ct.ImageType(name=spec.name, shape=spec.shape, color_layout=ct.colorlayout.RGB)
        if as_picture and spec.name == _PICTURE
        else ct.TensorType(
            name=spec.name, shape=tuple(axes[size] if isinstance(size, str) else size for size in spec.shape)
        )
        for spec in contract.inputs
    ]


def _describe(model: Any, contract: GraphContract, metadata: Metadata, unsafe: dict[str, str]) -> None:
    model.author = AUTHOR
    model.short_description = metadata.title
    model.license = metadata.licence
    model.version = metadata.version
    for spec in contract.inputs:
        model.input_description[spec.name] = spec.meaning
    for spec in contract.outputs:
        model.output_description[spec.name] = spec.meaning
    for name, text in metadata.notes:
        model.user_defined_metadata[name] = text
    if unsafe:
        model.user_defined_metadata[UNSAFE] = json.dumps(unsafe)


def inspect(path: Path) -> Inspection:
    """Statistics of a package; of several functions, the default one, as the others have the same operations.

    Returns:
        `operations`, the number of each kind; `highest_rank` of their outputs; `float16` and `float32`, the number of
        outputs with that dtype; `kept_in_float32`, operations with reasons where the precision is mixed.
    """
    spec = ct.utils.load_spec(str(path))
    (block,) = spec.mlProgram.functions[spec.description.defaultFunctionName or MAIN].block_specializations.values()
    operations = [operation for operation in block.operations if operation.type != "const"]
    made = [output.type.tensorType for operation in operations for output in operation.outputs]
    kinds = Counter(tensor.dataType for tensor in made)
    return {
        "operations": dict(sorted(Counter(str(operation.type) for operation in operations).items())),
        "highest_rank": max(int(tensor.rank) for tensor in made),
        "float16": kinds[ct.proto.MIL_pb2.FLOAT16],
        "float32": kinds[ct.proto.MIL_pb2.FLOAT32],
        "kept_in_float32": json.loads(spec.description.metadata.userDefined.get(UNSAFE, "{}")),
    }
