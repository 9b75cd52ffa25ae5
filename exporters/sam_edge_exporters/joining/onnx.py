"""ONNX files that share their weights: a file for each frame, and one file of external data beside them.

Shapes stay fixed in each file. ONNX Runtime then folds position embeddings when it loads a file, and accelerators with
fixed shapes take it (docs/decisions/0010-frames.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import onnx
from onnx import TensorProto, external_data_helper

from . import Part

SMALLEST_SHARED = 1024  # bytes; smaller tensors stay in the graph
# Of a tensor's place in the file, so that ONNX Runtime can map it. Its own writer aligns larger tensors to pages
# (onnxruntime, core/graph/graph.cc, `ModelExternalInitializerHandlingInfo`).
ALIGNMENT, PAGE, LARGE = 64, 4096, 1 << 20


def join(parts: Sequence[Part]) -> None:
    """Write each part's file, and all weights once to the first one's path + `.data`."""
    location = f"{parts[0].path.name}.data"
    places: dict[bytes, tuple[int, int]] = {}  # offset and size of each tensor, by the digest of its bytes
    with (parts[0].path.parent / location).open("wb") as data:
        for part in parts:
            model = onnx.load(part.source)
            for tensor in _shared(model):
                _move(tensor, data, places, location)
            onnx.save_model(model, part.path)


def _shared(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """The tensors of a model that are large enough to share."""
    for tensor in external_data_helper._get_all_tensors(model):  # no public function lists those in attributes
        if tensor.HasField("raw_data") and len(tensor.raw_data) >= SMALLEST_SHARED:
            yield tensor


def _move(tensor: TensorProto, data: BinaryIO, places: dict[bytes, tuple[int, int]], location: str) -> None:
    """Move a tensor's bytes to the file, unless they are there already."""
    digest = hashlib.sha256(tensor.raw_data).digest()
    if digest not in places:
        size = len(tensor.raw_data)
        boundary = PAGE if size >= LARGE else ALIGNMENT
        offset = -(-data.tell() // boundary) * boundary
        data.write(bytes(offset - data.tell()))
        data.write(tensor.raw_data)
        places[digest] = (offset, size)
    external_data_helper.set_external_data(tensor, location, *places[digest])
    tensor.ClearField("raw_data")
