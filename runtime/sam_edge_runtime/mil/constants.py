"""The constants of a package: texts and arrays written in the program itself, or in a file of weights beside it.

Weights lie in Core ML's blob format: at the offset that a constant names there is a record of 64 bytes, which says
where the numbers are and how many bytes they take. Numbers of less than a byte are packed without gaps, the first one
in the lowest bits, a last byte filled up with zeros.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Array
from sam_edge_runtime.errors import BundleError

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
# DataTypes of less than a byte: bits, and numpy's name for the unpacked.
_PACKED = {25: (4, "int8"), 35: (4, "uint8"), 36: (2, "uint8"), 37: (1, "uint8"), 38: (6, "uint8"), 39: (3, "uint8")}
_TEXT = 2  # DataType of strings


class Constants:
    """Values of one package; each weights file is mapped once.

    Attributes:
        folder: where the weights' paths start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def value(self, value: Any) -> Any:
        """A constant: a text, or an array of the shape that its type says.

        Raises:
            BundleError: the weights are missing, damaged, elsewhere, or of a type that is not known.
        """
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
            return _from_bytes(np.frombuffer(numbers, np.uint8), kind.dataType, shape)
        return np.array(numbers, _numpy(kind.dataType)).reshape(shape)

    def _blob(self, blob: Any, data_type: int, shape: tuple[int, ...]) -> Array:
        name = blob.fileName
        stored = self._file(name)
        start = int(blob.offset)
        size = _size(data_type, shape)
        record = stored[start : start + _RECORD.size].tobytes()
        if len(record) == _RECORD.size:
            sentinel, _, held, offset = _RECORD.unpack(record)
            if sentinel == _SENTINEL and held >= size and offset + size <= len(stored):
                return _from_bytes(stored[offset : offset + size], data_type, shape)
        raise BundleError(f"'{self.folder / name.removeprefix(_WEIGHTS)}' is damaged or cut short; export it again")

    def _file(self, name: str) -> npt.NDArray[np.uint8]:
        if name not in self._files:
            path = (self.folder / name.removeprefix(_WEIGHTS)).resolve()
            if not name.startswith(_WEIGHTS) or not path.is_relative_to(self.folder.resolve()):
                raise BundleError(f"weights {name!r:.100} lie outside the package; export it again")
            try:
                self._files[name] = np.memmap(path, np.uint8, "r").view(np.ndarray)
            except (OSError, ValueError) as error:
                raise BundleError(f"'{path}' is missing or cannot be read; export it again") from error
        return self._files[name]


def unpacked(packed: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.uint8]:
    """The first `count` numbers of `bits` bits each, which lie in `packed` from the lowest bit up."""
    if bits == 8:
        return packed[:count]
    width = 1 if 8 % bits == 0 else 3  # bytes after which numbers begin at a byte's edge again
    groups = -(-count * bits // (8 * width))
    padded = np.zeros(groups * width, np.uint8)
    padded[: min(len(packed), len(padded))] = packed[: len(padded)]
    whole = np.zeros(groups, np.uint32)
    for place in range(width):
        whole |= padded[place::width].astype(np.uint32) << np.uint32(8 * place)
    numbers = np.empty((groups, 8 * width // bits), np.uint8)
    for place in range(numbers.shape[1]):
        numbers[:, place] = (whole >> np.uint32(bits * place)) & np.uint32((1 << bits) - 1)
    return numbers.reshape(-1)[:count]


def dtype_name(value_type: Any) -> str:
    """Numpy's name of a type in the program, `str` for texts; numbers of less than a byte take a whole one."""
    data_type = value_type.tensorType.dataType
    return "str" if data_type == _TEXT else _numpy(data_type).name


def _size(data_type: int, shape: tuple[int, ...]) -> int:
    """Bytes that numbers take in a file."""
    count = int(np.prod(shape))
    return -(-count * _PACKED[data_type][0] // 8) if data_type in _PACKED else count * _numpy(data_type).itemsize


def _from_bytes(stored: npt.NDArray[np.uint8], data_type: int, shape: tuple[int, ...]) -> Array:
    if data_type not in _PACKED:
        return stored.view(_numpy(data_type)).reshape(shape)
    bits, name = _PACKED[data_type]
    numbers = unpacked(stored, bits, int(np.prod(shape))).reshape(shape)
    if name == "uint8":
        return numbers
    sign = np.uint8(1 << (bits - 1))
    return ((numbers ^ sign) - sign).view(np.int8)  # two's complement widened


def _numpy(data_type: int) -> np.dtype[Any]:
    if data_type in _PACKED:
        return np.dtype(_PACKED[data_type][1])
    if data_type not in _DTYPES:
        raise BundleError(f"the package has numbers of MIL's data type {data_type}, which this evaluator does not know")
    return np.dtype(_DTYPES[data_type])
