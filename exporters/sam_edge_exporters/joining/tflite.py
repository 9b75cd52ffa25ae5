"""A TFLite file with a signature for each frame, over one copy of the weights.

Subgraphs refer to constants by the index of a buffer. The subgraphs of all files are put into one model, whose buffers
are those of all files without doubles.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ai_edge_quantizer import model_modifier
from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

from sam_edge_exporters.tflite import ONLY
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.system.quiet import no_logging

from . import Part, joined_path

# Options of operations that contain subgraphs. litert-torch writes none for SAM's graphs.
_SUBGRAPH_OPTIONS = ("cond", "body", "then", "else", "decomposition", "init")


def join(parts: Sequence[Part]) -> None:
    """Write all parts to one file; a signature's name begins with its part's.

    Raises:
        ExportError: a part has operations that contain subgraphs.
    """
    path = joined_path(parts)
    model: Any = None
    joined = _Buffers()
    for part in parts:
        read = flatbuffer.read_model(str(part.source))
        _check(read, part.source)
        joined.take(read)
        for signature in read.signatureDefs:
            own = signature.signatureKey.decode()
            signature.signatureKey = (part.name if own == ONLY else f"{part.name}_{own}").encode()
        if model is None:
            model = read
            continue
        codes = [_code(model, code) for code in read.operatorCodes]
        for graph in read.subgraphs:
            for operation in graph.operators:
                operation.opcodeIndex = codes[operation.opcodeIndex]
        for signature in read.signatureDefs:
            signature.subgraphIndex += len(model.subgraphs)
        model.subgraphs += read.subgraphs
        model.signatureDefs += read.signatureDefs
    model.buffers = joined.buffers
    with no_logging():
        # Without changes it only writes the file, with weights aligned after the graph.
        model_modifier.ModelModifier(model).modify_model({}, serialize_to_path=str(path), enable_progress_bar=False)


class _Buffers:
    """The buffers of a joined model. The first is empty, as TFLite requires."""

    def __init__(self) -> None:
        self.buffers: list[Any] = []
        self._places: dict[bytes, int] = {}

    def take(self, model: Any) -> None:
        """Take the buffers of a model, and have its tensors and metadata refer to them."""
        places = [self._place(buffer) for buffer in model.buffers]
        for graph in model.subgraphs:
            for tensor in graph.tensors:
                tensor.buffer = places[tensor.buffer]
        for metadata in model.metadata or ():
            metadata.buffer = places[metadata.buffer]

    def _place(self, buffer: Any) -> int:
        content = b"" if buffer.data is None else sha256(memoryview(buffer.data)).digest()
        if content not in self._places:
            self._places[content] = len(self.buffers)
            self.buffers.append(buffer)
        return self._places[content]


def _code(model: Any, code: Any) -> int:
    """The index of an operation code in a model, which gets it if it has none like it."""

    def key(each: Any) -> tuple[Any, ...]:
        return each.builtinCode, each.deprecatedBuiltinCode, each.customCode, each.version

    for index, each in enumerate(model.operatorCodes):
        if key(each) == key(code):
            return index
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _check(model: Any, path: Path) -> None:
    for graph in model.subgraphs:
        for operation in graph.operators:
            for options in (operation.builtinOptions, getattr(operation, "builtinOptions2", None)):
                if any(f"{name}SubgraphIndex" in vars(options or object) for name in _SUBGRAPH_OPTIONS):
                    raise ExportError(f"{path.name} has an operation with a subgraph, which cannot be joined")
