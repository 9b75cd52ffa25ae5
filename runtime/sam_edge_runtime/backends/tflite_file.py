"""Reads two facts from TFLite files: whether they are truncated, and the types of their tensors.

Every buffer of weights must lie inside the file.

LiteRT checks this itself. tflite-runtime 2.14 does not: with a truncated file it computes with memory behind the file,
or crashes. Only the tables that lead to the weights are read (tensorflow/lite/schema/schema.fbs;
https://flatbuffers.dev/internals/).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_IDENTIFIER = b"TFL3"  # bytes 4..8 of every TFLite file
_SUBGRAPHS, _BUFFERS = 2, 4  # fields of the table Model
_TENSORS = 0  # field of the table SubGraph
_TYPE = 1  # field of the table Tensor
INT16, INT4 = 7, 17  # values of it
_DATA, _OFFSET, _SIZE = 0, 1, 2  # fields of the table Buffer; the last two locate weights behind the flatbuffer


def is_tflite(path: Path) -> bool:
    """Whether the file starts with the identifier of a TFLite model."""
    with path.open("rb") as stream:
        return stream.read(8)[4:] == _IDENTIFIER


def is_complete(path: Path) -> bool:
    """Whether all weights of the TFLite file `path` lie inside it."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return all(end <= len(content) for end in _ends(content))
        except struct.error:  # a table lies outside the file
            return False


def tensor_types(path: Path) -> set[int]:
    """Types of the tensors in the TFLite file `path`, except float32; empty where its tables cannot be followed."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            places = [
                _field(content, tensor, _TYPE)
                for subgraph in _tables(content, _follow(content, 0), _SUBGRAPHS)
                for tensor in _tables(content, subgraph, _TENSORS)
            ]
            return {content[place] for place in places if place is not None}
        except (struct.error, IndexError):  # a table lies outside the file
            return set()


def _ends(content: mmap.mmap) -> Iterator[int]:
    """The end of each buffer's weights, in bytes from the start of the file."""
    for buffer in _tables(content, _follow(content, 0), _BUFFERS):
        data, offset, size = (_field(content, buffer, field) for field in (_DATA, _OFFSET, _SIZE))
        if data is not None:
            start = _follow(content, data)
            yield start + 4 + int(struct.unpack_from("<I", content, start)[0])
        if offset is not None and size is not None:
            yield sum(struct.unpack_from("<Q", content, place)[0] for place in (offset, size))


def _tables(content: mmap.mmap, table: int, number: int) -> Iterator[int]:
    """Positions of the tables in the vector that a table's field holds; none where it has no such field."""
    field = _field(content, table, number)
    if field is None:
        return
    vector = _follow(content, field)
    (count,) = struct.unpack_from("<I", content, vector)
    for index in range(count):
        yield _follow(content, vector + 4 + 4 * index)


def _follow(content: mmap.mmap, place: int) -> int:
    """The position that the offset at `place` points to."""
    return place + int(struct.unpack_from("<I", content, place)[0])


def _field(content: mmap.mmap, table: int, number: int) -> int | None:
    """Position of a table's field; None where it has none."""
    start = table - int(struct.unpack_from("<i", content, table)[0])
    if start < 0:
        raise struct.error("a table's description lies before the file")
    (length,) = struct.unpack_from("<H", content, start)
    if 4 + 2 * number >= length:
        return None
    (offset,) = struct.unpack_from("<H", content, start + 4 + 2 * number)
    return table + offset if offset else None
