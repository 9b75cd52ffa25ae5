"""Reads the constants of a package: strings and arrays, immediate in the program or in a blob file beside it.

A blob file is Core ML's storage of weights. At a constant's offset there is a metadata record of 64 bytes with the
offset and the size of the values. Sub-byte values are packed without gaps, the first in the lowest bits, and the last
byte is padded with zeros.
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
_RECORD = struct.Struct("<IIQQ")  # sentinel, data type, bytes, offset of the values
_MODEL_PATH = "@model_path/"  # how names of blob files begin
# MIL.proto's DataType to numpy's name.
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
# Sub-byte DataTypes to their bits and numpy's name of the unpacked values.
_SUB_BYTE = {25: (4, "int8"), 35: (4, "uint8"), 36: (2, "uint8"), 37: (1, "uint8"), 38: (6, "uint8"), 39: (3, "uint8")}
_STRING = 2  # DataType


class Constants:
    """Reads values of one package; each blob file is memory-mapped once.

    Attributes:
        folder: to which names of blob files are relative.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def read(self, value: Any) -> Any:
        """A MIL `Value`: a string, or an array of its declared shape.

        Raises:
            BundleError: the blob file is missing, damaged or outside the package, or the data type is not supported.
        """
        declared = value.type.tensorType
        shape = tuple(int(axis.constant.size) for axis in declared.dimensions)
        if value.WhichOneof("value") == "blobFileValue":
            return self._read_blob(value.blobFileValue, declared.dataType, shape)
        tensor = value.immediateValue.tensor
        filled = tensor.WhichOneof("value")
        if declared.dataType == _STRING:
            return tensor.strings.values[0] if len(tensor.strings.values) else ""
        if filled is None:
            return np.zeros(shape, _numpy(declared.dataType))
        values = getattr(tensor, filled).values
        if filled == "bytes":
            return _from_bytes(np.frombuffer(values, np.uint8), declared.dataType, shape)
        return np.array(values, _numpy(declared.dataType)).reshape(shape)

    def _read_blob(self, blob: Any, data_type: int, shape: tuple[int, ...]) -> Array:
        name = blob.fileName
        stored = self._blob_file(name)
        start = int(blob.offset)
        size = _size(data_type, shape)
        record = stored[start : start + _RECORD.size].tobytes()
        if len(record) == _RECORD.size:
            sentinel, _, available, offset = _RECORD.unpack(record)
            if sentinel == _SENTINEL and available >= size and offset + size <= len(stored):
                return _from_bytes(stored[offset : offset + size], data_type, shape)
        raise BundleError(f"'{self.folder / name.removeprefix(_MODEL_PATH)}' is damaged or cut short; export it again")

    def _blob_file(self, name: str) -> npt.NDArray[np.uint8]:
        if name not in self._files:
            path = (self.folder / name.removeprefix(_MODEL_PATH)).resolve()
            if not name.startswith(_MODEL_PATH) or not path.is_relative_to(self.folder.resolve()):
                raise BundleError(f"blob file {name!r:.100} lies outside the package; export it again")
            try:
                self._files[name] = np.memmap(path, np.uint8, "r").view(np.ndarray)
            except (OSError, ValueError) as error:
                raise BundleError(f"'{path}' is missing or cannot be read; export it again") from error
        return self._files[name]


def unpacked(packed: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.uint8]:
    """The first `count` values of `bits` bits each, packed from the lowest bit up."""
    if bits == 8:
        return packed[:count]
    width = 1 if 8 % bits == 0 else 3  # bytes in which a whole number of values fits
    groups = -(-count * bits // (8 * width))
    padded = np.zeros(groups * width, np.uint8)
    padded[: min(len(packed), len(padded))] = packed[: len(padded)]
    words = np.zeros(groups, np.uint32)
    for place in range(width):
        words |= padded[place::width].astype(np.uint32) << np.uint32(8 * place)
    values = np.empty((groups, 8 * width // bits), np.uint8)
    for place in range(values.shape[1]):
        values[:, place] = (words >> np.uint32(bits * place)) & np.uint32((1 << bits) - 1)
    return values.reshape(-1)[:count]


def dtype_name(value_type: Any) -> str:
    """Numpy's name of a MIL type, `str` for strings; a sub-byte type takes a whole byte."""
    data_type = value_type.tensorType.dataType
    return "str" if data_type == _STRING else _numpy(data_type).name


def _size(data_type: int, shape: tuple[int, ...]) -> int:
    """Bytes that values take in a blob file."""
    count = int(np.prod(shape))
    return -(-count * _SUB_BYTE[data_type][0] // 8) if data_type in _SUB_BYTE else count * _numpy(data_type).itemsize


def _from_bytes(stored: npt.NDArray[np.uint8], data_type: int, shape: tuple[int, ...]) -> Array:
    if data_type not in _SUB_BYTE:
        return stored.view(_numpy(data_type)).reshape(shape)
    bits, name = _SUB_BYTE[data_type]
    values = unpacked(stored, bits, int(np.prod(shape))).reshape(shape)
    if name == "uint8":
        return values
    sign = np.uint8(1 << (bits - 1))
    return ((values ^ sign) - sign).view(np.int8)  # two's complement, widened to 8 bits


def _numpy(data_type: int) -> np.dtype[Any]:
    if data_type in _SUB_BYTE:
        return np.dtype(_SUB_BYTE[data_type][1])
    if data_type not in _DTYPES:
        raise BundleError(
            f"the package has values of MIL's data type {data_type}, which this evaluator does not support"
        )
    return np.dtype(_DTYPES[data_type])
