"""A `.mlpackage` on disk to a list of operations with their constants.

The program is a protocol buffer (coremltools' `Model.proto` and `MIL.proto`), the weights lie in a file beside it in
Core ML's blob format: at the offset that a constant names there is a record of 64 bytes, which says where the numbers
are and how many bytes they take.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.errors import BackendError, BundleError

Array = npt.NDArray[Any]

_SENTINEL = 0xDEADBEEF
_RECORD = struct.Struct("<IIQQ")  # sentinel, kind, bytes, offset of the numbers
_WEIGHTS = "@model_path/"
# MIL.proto's DataType: numpy's name.
_DTYPES = {
    1: "bool",
    10: "float16",
    11: "float32",
    12: "float64",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
    31: "uint8",
    32: "uint16",
    33: "uint32",
}
_TEXT = 2  # DataType of strings


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
        inputs: name, shape and dtype of the program's inputs.
        outputs: names of its outputs.
        operations: in the order of their execution.
    """

    inputs: dict[str, tuple[tuple[int, ...], str]]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]


def read_package(path: Path) -> Package:
    """Read the ML Program of a `.mlpackage`.

    Raises:
        BackendError: coremltools, which knows the protocol buffers, is not installed.
        BundleError: the package is incomplete or damaged, or holds no ML Program of one function.
    """
    model, folder = _model_file(path)
    try:
        from coremltools.proto import Model_pb2  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BackendError(
            f'a Core ML bundle needs coremltools ({error}); install it with: pip install "sam-edge[coreml]"'
        ) from error
    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(model.read_bytes())
    except Exception as error:  # protobuf's DecodeError, whose module depends on its implementation
        raise BundleError(f"'{model}' is damaged ({error}); export it again") from error
    if spec.WhichOneof("Type") != "mlProgram" or list(spec.mlProgram.functions) != ["main"]:
        raise BundleError(f"'{path}' holds no ML Program with one function 'main'; export it again")
    return _Reader(folder).read(spec.mlProgram.functions["main"], path)


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


class _Reader:
    """Values of one package; each weights file is mapped once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def read(self, function: Any, path: Path) -> Package:
        block = function.block_specializations[function.opset]
        constants: dict[str, Any] = {}
        operations = []
        for operation in block.operations:
            if operation.type == "const":
                constants[operation.outputs[0].name] = self.value(operation.attributes["val"])
                continue
            inputs = {name: self._argument(argument, constants) for name, argument in operation.inputs.items()}
            outputs = tuple(output.name for output in operation.outputs)
            dtypes = tuple(_dtype(output.type) for output in operation.outputs)
            operations.append(Operation(operation.type, inputs, outputs, dtypes))
        if not operations:
            raise BundleError(f"'{path}' holds an empty program; export it again")
        given = {
            each.name: (
                tuple(int(axis.constant.size) for axis in each.type.tensorType.dimensions),
                _dtype(each.type),
            )
            for each in function.inputs
        }
        return Package(given, tuple(block.outputs), tuple(operations))

    def _argument(self, argument: Any, constants: dict[str, Any]) -> Any:
        found = [
            constants.get(binding.name, Reference(binding.name))
            if binding.WhichOneof("binding") == "name"
            else self.value(binding.value)
            for binding in argument.arguments
        ]
        return found[0] if len(found) == 1 else found

    def value(self, value: Any) -> Any:
        """A constant: a text, or an array of the shape that its type says."""
        kind = value.type.tensorType
        shape = tuple(int(axis.constant.size) for axis in kind.dimensions)
        if value.WhichOneof("value") == "blobFileValue":
            return self._blob(value.blobFileValue, kind.dataType, shape)
        tensor = value.immediateValue.tensor
        filled = tensor.WhichOneof("value")
        if kind.dataType == _TEXT:
            return tensor.strings.values[0] if len(tensor.strings.values) else ""
        if filled is None:
            return np.zeros(shape, _numpy(kind.dataType))
        numbers = getattr(tensor, filled).values
        if filled == "bytes":
            return np.frombuffer(numbers, _numpy(kind.dataType)).reshape(shape)
        return np.array(numbers, _numpy(kind.dataType)).reshape(shape)

    def _blob(self, blob: Any, data_type: int, shape: tuple[int, ...]) -> Array:
        name = blob.fileName
        stored = self._file(name)
        start = int(blob.offset)
        dtype = _numpy(data_type)
        size = int(np.prod(shape)) * dtype.itemsize
        record = stored[start : start + _RECORD.size].tobytes()
        if len(record) == _RECORD.size:
            sentinel, _, held, offset = _RECORD.unpack(record)
            if sentinel == _SENTINEL and held >= size and offset + size <= len(stored):
                return stored[offset : offset + size].view(dtype).reshape(shape)
        raise BundleError(f"'{self._folder / name.removeprefix(_WEIGHTS)}' is damaged or cut short; export it again")

    def _file(self, name: str) -> npt.NDArray[np.uint8]:
        if name not in self._files:
            path = (self._folder / name.removeprefix(_WEIGHTS)).resolve()
            if not name.startswith(_WEIGHTS) or not path.is_relative_to(self._folder.resolve()):
                raise BundleError(f"weights {name!r:.100} lie outside the package; export it again")
            try:
                self._files[name] = np.memmap(path, np.uint8, "r")
            except (OSError, ValueError) as error:
                raise BundleError(f"'{path}' is missing or cannot be read; export it again") from error
        return self._files[name]


def _numpy(data_type: int) -> np.dtype[Any]:
    if data_type not in _DTYPES:
        raise BundleError(f"the package has numbers of MIL's data type {data_type}, which this evaluator does not know")
    return np.dtype(_DTYPES[data_type])


def _dtype(value_type: Any) -> str:
    data_type = value_type.tensorType.dataType
    return "str" if data_type == _TEXT else _numpy(data_type).name
