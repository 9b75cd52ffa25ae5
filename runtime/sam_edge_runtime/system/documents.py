"""Untrusted JSON and numpy files, read within limits of type, depth, size and memory."""

from __future__ import annotations

import io
import json
import math
import tokenize
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array

from .text import read_regular

LARGEST_DOCUMENT = 1 << 28  # bytes of a JSON file; a record of SA-1B has a hundredth of a percent of it
# What numpy writes: np.savez and np.savez_compressed.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def parse_json(text: str | bytes) -> Any:
    """A JSON document; a byte order mark is passed over, and bytes may be UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: no JSON, nested too deeply, or a number of thousands of digits.
    """
    try:
        return json.loads(text.removeprefix("\ufeff") if isinstance(text, str) else text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path) -> Any:
    """The JSON document in a file.

    Raises:
        OSError: the file cannot be read, or is no regular file.
        ValueError: larger than `LARGEST_DOCUMENT`, or as `parse_json`.
    """
    return parse_json(read_regular(path, LARGEST_DOCUMENT))


def json_text(document: Any) -> str:
    """A document as indented JSON. NaN and infinity, which JSON does not have, become null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


# Raised by numpy, which parses the header as Python literals.
_BAD_HEADER = (
    ValueError,
    TypeError,
    SyntaxError,
    KeyError,
    RecursionError,
    MemoryError,
    EOFError,
    tokenize.TokenError,
)


def parse_npy(content: bytes) -> Array:
    """The array in a `.npy` file, if the file has exactly the bytes that its header claims.

    Raises:
        ValueError: no array, one of Python objects, or another size than claimed.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"its format has the version {version}")
    except _BAD_HEADER as error:
        raise ValueError(f"its header is damaged ({error})") from error
    if dtype.hasobject or dtype.itemsize == 0 or any(size < 0 for size in shape):
        raise ValueError(f"it holds {dtype} of shape {shape}")
    claimed, there = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if claimed != there:
        raise ValueError(f"its header claims {claimed} bytes of values, and {there} follow")
    array: Array = np.frombuffer(content, dtype, offset=stream.tell()).reshape(
        shape, order="F" if fortran_order else "C"
    )
    return array.copy()


def read_npz(path: Path, most: int) -> dict[str, Array]:
    """The arrays of a `.npz` file by name.

    Args:
        path: the file.
        most: bytes that all arrays may take together.

    Raises:
        OSError: the file cannot be read.
        ValueError: no such file, a member that is no array, a compression that numpy does not write, or more bytes.
    """
    arrays: dict[str, Array] = {}
    left = most
    try:
        with zipfile.ZipFile(io.BytesIO(read_regular(path, most))) as archive:
            for entry in archive.infolist():
                if entry.compress_type not in _COMPRESSIONS or not entry.filename.endswith(".npy"):
                    raise ValueError(f"{entry.filename!r:.60} is no array that numpy wrote")
                with archive.open(entry) as stream:
                    content = stream.read(left + 1)  # not what the header claims
                left -= len(content)
                if left < 0:
                    raise ValueError(f"its arrays take more than {most:,} bytes")
                try:
                    arrays[entry.filename.removesuffix(".npy")] = parse_npy(content)
                except ValueError as error:
                    raise ValueError(f"{entry.filename!r:.60}: {error}") from error
    except (OSError, ValueError):
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise ValueError(f"it is a damaged zip file ({str(error) or type(error).__name__})") from error
    return arrays
