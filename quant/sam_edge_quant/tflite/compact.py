"""Smaller bookkeeping in a TFLite file: equal vectors are stored once, and names of tensors are short.

A weight with a scale for each channel has a zero point of eight bytes for each as well, all zero. LiteRT's readers want
as many zero points as scales. But tables of a flatbuffer refer to their vectors by offset, so all tensors with the same
number of channels can share one vector of zeros, and every reader finds what it expects. litert-torch names a tensor
after all modules around it, some two hundred characters; the last part of it, which `sam-edge verify --trace` shows, is
kept. Both were 11 % of nano's files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert.tools import flatbuffer_utils

from sam_edge_runtime.arrays import Array

_IDENTIFIER = b"TFL3"  # of TFLite files
_LARGEST = 1 << 16  # bytes of a vector that is looked up: scales and shapes, not weights


class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]  # flatbuffers has no types
    """A flatbuffer's builder that stores equal strings and small equal vectors once."""

    def __init__(self) -> None:
        super().__init__(1024)
        self._known: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802 - flatbuffers' name
        """The offset of a vector."""
        if x.nbytes > _LARGEST:
            return int(super().CreateNumpyVector(x))
        key = x.dtype.str, x.tobytes()
        if key not in self._known:
            self._known[key] = int(super().CreateNumpyVector(x))
        return self._known[key]

    def CreateString(self, s: str | bytes, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802
        """The offset of a string."""
        key = "string", s.encode(encoding, errors) if isinstance(s, str) else bytes(s)
        if key not in self._known:
            self._known[key] = int(super().CreateString(s, encoding, errors))
        return self._known[key]


@contextmanager
def compact_files() -> Iterator[None]:
    """Have AI Edge Quantizer write such files inside the `with` block."""
    original = flatbuffer_utils.convert_object_to_bytearray
    flatbuffer_utils.convert_object_to_bytearray = _packed
    try:
        yield
    finally:
        flatbuffer_utils.convert_object_to_bytearray = original


def _packed(model_object: Any, extra_buffer: bytes = b"") -> bytearray:
    """A model as a flatbuffer; parameters have AI Edge's names."""
    for graph in model_object.subgraphs:
        for tensor in graph.tensors:
            tensor.name = short_name(tensor.name or b"")
            quantization = tensor.quantization
            if quantization is not None and quantization.zeroPoint is not None:
                quantization.zeroPoint = np.asarray(quantization.zeroPoint, np.int64)
    builder = SharingBuilder()
    builder.Finish(model_object.Pack(builder), file_identifier=_IDENTIFIER)
    made: bytearray = builder.Output()
    return made + extra_buffer


def short_name(name: str | bytes) -> bytes:
    """The last module of a tensor's path; AI Edge Quantizer names some of the tensors it adds by text."""
    path = name.encode() if isinstance(name, str) else bytes(name)
    return path.rsplit(b"/", 1)[-1].split(b";")[0]
