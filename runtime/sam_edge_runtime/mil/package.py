"""A `.mlpackage` on disk to a list of operations with their constants.

The program is a protocol buffer (coremltools' `Model.proto` and `MIL.proto`); `constants` reads the weights, which lie
in a file beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_edge_runtime.errors import BundleError

from .constants import Constants, dtype_name
from .protocol import empty_model

Shape = tuple[int | None, ...]  # None where any size will do

CONSTEXPR = "constexpr_"  # how operations that make constants are named
_LISTS = frozenset({"values"})  # parameters (of concat, stack, einsum) that take several tensors, or a list of one


@dataclass(frozen=True)
class Reference:
    """The output of an earlier operation, or an input of the program."""

    name: str


@dataclass(frozen=True)
class Operation:
    """One step.

    Attributes:
        kind: MIL's name of it, such as `conv`.
        inputs: by parameter name, constants and references; a list of them where the parameter takes several.
        outputs: names of what it makes.
        dtypes: numpy's names of their types.
    """

    kind: str
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Package:
    """What was read.

    Attributes:
        inputs: name, shape and dtype of the program's inputs; None is an axis of any size.
        outputs: names of its outputs.
        operations: in the order of their execution; those named `constexpr_...` make constants.
    """

    inputs: dict[str, tuple[Shape, str]]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]


def read_package(path: Path) -> Package:
    """Read the ML Program of a `.mlpackage`.

    Raises:
        BackendError: coremltools, which knows the protocol buffers, is not installed.
        BundleError: the package is incomplete or damaged, or holds no ML Program of one function.
    """
    model, folder = _model_file(path)
    spec = empty_model()
    try:
        spec.ParseFromString(model.read_bytes())
    except Exception as error:  # protobuf's DecodeError, whose module depends on its implementation
        raise BundleError(f"'{model}' is damaged ({error}); export it again") from error
    if spec.WhichOneof("Type") != "mlProgram" or list(spec.mlProgram.functions) != ["main"]:
        raise BundleError(f"'{path}' holds no ML Program with one function 'main'; export it again")
    try:
        return _read(spec.mlProgram.functions["main"], Constants(folder), path)
    except (ValueError, IndexError) as error:  # numbers that do not fill their shape, a parameter without a value
        raise BundleError(f"'{model}' is damaged ({error}); export it again") from error


def _model_file(path: Path) -> tuple[Path, Path]:
    """The model's file of a package, and the folder that its weights are relative to."""
    data = path / "Data"
    try:
        manifest = json.loads((path / "Manifest.json").read_text("utf-8"))
        root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        file = (data / root).resolve()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"'{path}' is no Core ML package ({type(error).__name__}: {error}); export it again"
        ) from error
    if not file.is_relative_to(data.resolve()):
        raise BundleError(f"'{path}' names a model outside itself; export it again")
    if not file.is_file():
        raise BundleError(f"'{path}' has no {file.name}; export it again")
    return file, file.parent


def _read(function: Any, values: Constants, path: Path) -> Package:
    block = function.block_specializations[function.opset]
    constants: dict[str, Any] = {}
    operations = []
    for operation in block.operations:
        if operation.type == "const":
            constants[operation.outputs[0].name] = values.value(operation.attributes["val"])
            continue
        inputs = {}
        if operation.type.startswith(CONSTEXPR):  # iOS 16 writes what they are made from as attributes
            inputs = {name: values.value(value) for name, value in operation.attributes.items() if name != "name"}
        for name, argument in operation.inputs.items():
            found = [_bound(binding, constants, values) for binding in argument.arguments]
            inputs[name] = found if name in _LISTS else found[0]
        outputs = tuple(output.name for output in operation.outputs)
        dtypes = tuple(dtype_name(output.type) for output in operation.outputs)
        operations.append(Operation(operation.type, inputs, outputs, dtypes))
    if not operations:
        raise BundleError(f"'{path}' holds an empty program; export it again")
    given = {each.name: (_shape(each.type), dtype_name(each.type)) for each in function.inputs}
    return Package(given, tuple(block.outputs), tuple(operations))


def _bound(binding: Any, constants: dict[str, Any], values: Constants) -> Any:
    if binding.WhichOneof("binding") == "name":
        return constants.get(binding.name, Reference(binding.name))
    return values.value(binding.value)


def _shape(value_type: Any) -> Shape:
    return tuple(
        int(axis.constant.size) if axis.WhichOneof("dimension") == "constant" else None
        for axis in value_type.tensorType.dimensions
    )
