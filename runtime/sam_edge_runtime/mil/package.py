"""Reads a `.mlpackage`: the operations of its ML Program, with their constants.

The program is a protocol buffer (coremltools' `Model.proto` and `MIL.proto`). Weights lie in a blob file, which
`constants` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_edge_runtime.errors import BundleError
from sam_edge_runtime.system.documents import read_json

from .constants import Constants, dtype_name
from .protocol import empty_model

Shape = tuple[int | None, ...]  # None is a flexible axis

MAIN = "main"  # name of the function in a package of one
CONSTEXPR = "constexpr_"  # prefix of the operations that compute weights
_LISTS = frozenset({"values"})  # parameters of concat, stack and einsum: always a list, even of one tensor


@dataclass(frozen=True)
class Reference:
    """The name of an earlier operation's output, or of an input of the program."""

    name: str


@dataclass(frozen=True)
class Operation:
    """An operation of a block.

    Attributes:
        op_type: its MIL type, such as `conv`.
        inputs: constants and references by parameter name; a list of them where the parameter takes several.
        outputs: names of its outputs.
        dtypes: numpy's names of their data types.
    """

    op_type: str
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Package:
    """A function of a package's ML Program.

    Attributes:
        inputs: shape and dtype of its inputs, by name; None is a flexible axis.
        outputs: names of its outputs.
        operations: of its block, in the order of execution, without `const`; `constexpr_...` compute weights.
    """

    inputs: dict[str, tuple[Shape, str]]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]


def read_package(path: Path, function: str | None = None) -> Package:
    """Read a function of the ML Program of a `.mlpackage`.

    Args:
        path: the package.
        function: its name; None for the only one, `main`, or the default one of several.

    Raises:
        BackendError: coremltools, which knows the protocol buffers, is not installed.
        BundleError: the package is incomplete or damaged, or its ML Program does not have the function.
    """
    model, folder = _model_file(path)
    spec = empty_model()
    try:
        spec.ParseFromString(model.read_bytes())
    except Exception as error:  # protobuf's DecodeError, whose module depends on its implementation
        raise BundleError(f"'{model}' is damaged ({error}); export it again") from error
    functions = list(spec.mlProgram.functions) if spec.WhichOneof("Type") == "mlProgram" else []
    default = spec.description.defaultFunctionName
    if function is None and functions != [MAIN] and default not in functions:
        raise BundleError(f"'{path}' is no ML Program with '{MAIN}' as its only function; export it again")
    if function is not None and function not in functions:
        raise BundleError(f"'{path}' has no function '{function}'; export it again")
    try:
        return _read_function(spec.mlProgram.functions[function or default or MAIN], Constants(folder), path)
    except (ValueError, IndexError) as error:  # values that do not fill their shape, a parameter without a value
        raise BundleError(f"'{model}' is damaged ({error}); export it again") from error


def _model_file(path: Path) -> tuple[Path, Path]:
    """A package's model file, and the folder to which names of blob files are relative."""
    data = path / "Data"
    try:
        manifest = read_json(path / "Manifest.json")
        root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        file = (data / root).resolve()
        exists = file.is_file()  # refuses a name that is too long
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"'{path}' is no Core ML package ({type(error).__name__}: {error}); export it again"
        ) from error
    if not file.is_relative_to(data.resolve()):
        raise BundleError(f"'{path}' names a model outside itself; export it again")
    if not exists:
        raise BundleError(f"'{path}' has no {file.name}; export it again")
    return file, file.parent


def _read_function(function: Any, constants: Constants, path: Path) -> Package:
    block = function.block_specializations[function.opset]
    const: dict[str, Any] = {}
    operations = []
    for operation in block.operations:
        if operation.type == "const":
            const[operation.outputs[0].name] = constants.read(operation.attributes["val"])
            continue
        inputs = {}
        if operation.type.startswith(CONSTEXPR):  # iOS 16 stores their parameters as attributes
            inputs = {name: constants.read(value) for name, value in operation.attributes.items() if name != "name"}
        for name, argument in operation.inputs.items():
            bound = [_resolve_binding(binding, const, constants) for binding in argument.arguments]
            inputs[name] = bound if name in _LISTS else bound[0]
        outputs = tuple(output.name for output in operation.outputs)
        dtypes = tuple(dtype_name(output.type) for output in operation.outputs)
        operations.append(Operation(operation.type, inputs, outputs, dtypes))
    if not operations:
        raise BundleError(f"'{path}' has an empty program; export it again")
    inputs_of_main = {each.name: (_shape(each.type), dtype_name(each.type)) for each in function.inputs}
    return Package(inputs_of_main, tuple(block.outputs), tuple(operations))


def _resolve_binding(binding: Any, const: dict[str, Any], constants: Constants) -> Any:
    if binding.WhichOneof("binding") == "name":
        return const.get(binding.name, Reference(binding.name))
    return constants.read(binding.value)


def _shape(value_type: Any) -> Shape:
    return tuple(
        int(axis.constant.size) if axis.WhichOneof("dimension") == "constant" else None
        for axis in value_type.tensorType.dimensions
    )
