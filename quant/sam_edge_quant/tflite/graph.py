"""A TFLite file as graphs of operations, and the pass-through operations between quantized ones.

A file with several signatures has a graph for each. They share the weights' buffers and may differ in everything else,
since the converter optimizes each call size separately. Tensors are identified by name; duplicate names are made unique
over the whole file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_quantizer import qtyping
from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.errors import ExportError, first_line

WIDE_SCHEME = "w8a16"
_ABSENT = -1  # in an operation's list of inputs
_KINDS = {code: name for name, code in vars(qtyping.BuiltinOperator).items() if isinstance(code, int)}

# Indices of an operation's activation, weight and bias among its inputs.
_WEIGHTED: dict[str, tuple[int, int, int]] = {
    "FULLY_CONNECTED": (0, 1, 2),
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
    "BATCH_MATMUL": (0, 1, 2),
}
# Pass-through operations are those that XNNPACK has in INT8, or lacks in float, too.
# These move values and do not change them: quantized or not, the result is the same.
MOVES = frozenset({"MAX_POOL_2D", "PAD", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPLIT", "TRANSPOSE"})
# These compute new values, which are rounded again when they are quantized.
_COMPUTES = frozenset({"ADD", "CONCATENATION", "RESIZE_BILINEAR"})
PASS_THROUGH = MOVES | _COMPUTES
# AI Edge Quantizer gives the outputs of these the range of their input.
KEEP_RANGE = MOVES | {"BROADCAST_TO", "GATHER", "GATHER_ND", "RESIZE_BILINEAR", "STRIDED_SLICE"}
# Operations without a weight that AI Edge Quantizer has in INT16 (`static_wi8_ai16` of its default policy), and LiteRT
# too: a graph for an NPU has them in 16 bits.
WIDE = KEEP_RANGE | frozenset(
    {"ADD", "BATCH_MATMUL", "CONCATENATION", "DIV", "GELU", "MEAN", "MUL", "RSQRT", "SOFTMAX", "SQRT", "SUB", "SUM"}
)


@dataclass(frozen=True)
class Operation:
    """One operation of a graph.

    Attributes:
        kind: TFLite's name for it.
        inputs: names of the float32 activations; constants and indices are left out.
        outputs: names of the outputs.
        scope: the name that AI Edge Quantizer matches patterns against.
        weight: name of the constant weight; None if there is none.
        bias: name of the constant bias; None if there is none.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scope: str = ""
    weight: str | None = None
    bias: str | None = None


@dataclass(frozen=True)
class Graph:
    """The operations of one signature, in topological order.

    Attributes:
        operations: in the file's order.
        results: names of the signature's outputs.
    """

    operations: tuple[Operation, ...]
    results: frozenset[str] = frozenset()

    @cached_property
    def makers(self) -> dict[str, int]:
        """The index of the operation that makes each tensor."""
        return {name: index for index, operation in enumerate(self.operations) for name in operation.outputs}

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """The indices of the operations that read each tensor."""
        found: dict[str, list[int]] = {}
        for index, operation in enumerate(self.operations):
            for name in operation.inputs:
                found.setdefault(name, []).append(index)
        return found


def pass_through_schemes(graph: Graph, static: Mapping[int, str]) -> dict[int, str]:
    """The pass-through operations that are quantized because they lie between quantized operations.

    All inputs of such an operation come from quantized operations of one scheme, and its output goes to operations of
    that scheme; in float it would break their chain with a dequantization and a quantization. If it only moves values,
    one quantized reader is enough: nothing is lost. If it computes new ones, all readers have to be quantized. So the
    additions along a transformer's residual stream stay in float: their outputs go to a normalization, which is in
    float, and to the next addition, where the rounding errors of INT8 sums would accumulate. The additions of a
    MobileNet's blocks go to convolutions and to the next addition, and are quantized.

    Args:
        graph: operations in topological order.
        static: the schemes of operations whose activations are quantized, by index.

    Returns:
        The schemes of these pass-through operations, by index.
    """
    schemes = dict(static)
    for index, operation in enumerate(graph.operations):
        incoming = {schemes.get(graph.makers.get(name, _ABSENT)) for name in operation.inputs}
        if operation.kind in PASS_THROUGH and len(incoming) == 1 and (scheme := incoming.pop()) is not None:
            schemes[index] = scheme
    while dropped := [index for index in schemes if index not in static and not _lies_between(graph, index, schemes)]:
        for index in dropped:
            del schemes[index]
    return {index: scheme for index, scheme in schemes.items() if index not in static}


def npu_schemes(graph: Graph, layers: Mapping[int, str]) -> dict[int, str]:
    """The operations without a weight that are quantized in a graph for an NPU: all that can be.

    Those that compute have 16 bits; those that keep their input's range have its width.

    Args:
        graph: operations in topological order.
        layers: the schemes of operations with a weight, by index.

    Returns:
        The schemes of the other operations, by index.
    """
    schemes = dict(layers)
    for index, operation in enumerate(graph.operations):
        if index in layers or operation.kind not in WIDE or not operation.inputs:
            continue
        maker = schemes.get(graph.makers.get(operation.inputs[0], _ABSENT), WIDE_SCHEME)
        schemes[index] = maker if operation.kind in KEEP_RANGE else WIDE_SCHEME
    return {index: scheme for index, scheme in schemes.items() if index not in layers}


def _lies_between(graph: Graph, index: int, schemes: Mapping[int, str]) -> bool:
    """Whether the operations around a pass-through operation have its scheme."""
    operation, scheme = graph.operations[index], schemes[index]
    if not all(schemes.get(graph.makers.get(name, _ABSENT)) == scheme for name in operation.inputs):
        return False
    outgoing = [schemes.get(reader) == scheme for name in operation.outputs for reader in graph.readers.get(name, [])]
    if operation.kind in MOVES:
        return any(outgoing)
    return all(outgoing) and bool(outgoing) and graph.results.isdisjoint(operation.outputs)


def origin(graph: Graph, pass_through: Mapping[int, str], name: str) -> str:
    """The tensor whose range a tensor has: itself, or the input of the quantized operations that keep its range."""
    index = graph.makers.get(name, _ABSENT)
    while index in pass_through and graph.operations[index].kind in KEEP_RANGE:
        name = graph.operations[index].inputs[0]
        index = graph.makers.get(name, _ABSENT)
    return name


class TfliteFile:
    """The content of a `.tflite` file.

    Attributes:
        path: the file.
        model: AI Edge's object form of it, with unique tensor names. Weights are views of the file.
        signatures: the signatures, in the file's order.
        graphs: the signatures' graphs.

    Raises:
        ExportError: it cannot be read, or has no signature.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.model: Any = flatbuffer.read_model(str(path))
        except Exception as error:  # of many kinds, from code that reads flatbuffers unchecked
            raise ExportError(
                f"{path} cannot be read as a TFLite file ({first_line(error)}); export it again"
            ) from error
        _make_unique([tensor for graph in self.model.subgraphs for tensor in graph.tensors])
        self.signatures: list[Any] = list(self.model.signatureDefs or [])
        if not self.signatures:
            raise ExportError(f"{path.name} has no signature, which names its inputs; export it again")
        self._tensors = {
            flatbuffer.get_tensor_name(tensor): tensor for graph in self.model.subgraphs for tensor in graph.tensors
        }
        self.graphs = [self._graph(self.model.subgraphs[each.subgraphIndex]) for each in self.signatures]

    def inputs(self, index: int) -> dict[str, str]:
        """A signature's inputs: tensor names by the signature's own names."""
        return self._named(index, self.signatures[index].inputs)

    def outputs(self, index: int) -> dict[str, str]:
        """A signature's outputs: tensor names by the signature's own names."""
        return self._named(index, self.signatures[index].outputs)

    def constant(self, name: str) -> Float32:
        """The values of a constant."""
        return np.asarray(flatbuffer.get_tensor_data(self._tensors[name], self.model.buffers), np.float32)

    def buffer(self, name: str) -> int:
        """The index of a constant's buffer; a weight that several graphs share has one buffer."""
        return int(self._tensors[name].buffer)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        shape = self._tensors[name].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def dtype(self, name: str) -> int:
        """A tensor's type, one of `qtyping.TensorType`."""
        return int(self._tensors[name].type)

    def _named(self, index: int, entries: Any) -> dict[str, str]:
        tensors = self.model.subgraphs[self.signatures[index].subgraphIndex].tensors
        return {each.name.decode(): flatbuffer.get_tensor_name(tensors[each.tensorIndex]) for each in entries}

    def _graph(self, subgraph: Any) -> Graph:
        names = [flatbuffer.get_tensor_name(tensor) for tensor in subgraph.tensors]
        operations = tuple(self._operation(operation, subgraph, names) for operation in subgraph.operators)
        return Graph(operations, frozenset(names[index] for index in subgraph.outputs))

    def _operation(self, operation: Any, subgraph: Any, names: list[str]) -> Operation:
        kind = _KINDS[self.model.operatorCodes[operation.opcodeIndex].builtinCode]
        listed = [int(index) for index in operation.inputs]
        floats = [subgraph.tensors[index].type == qtyping.TensorType.FLOAT32 for index in listed]
        fixed = [self.model.buffers[subgraph.tensors[index].buffer].data is not None for index in listed]
        activations = [
            names[index]
            for index, is_float, is_fixed in zip(listed, floats, fixed, strict=True)
            if index != _ABSENT and is_float and not is_fixed
        ]

        def constant(index: int) -> str | None:
            there = index < len(listed) and listed[index] != _ABSENT and floats[index] and fixed[index]
            return names[listed[index]] if there else None

        _, weight, bias = _WEIGHTED.get(kind, (0, len(listed), len(listed)))
        outputs = tuple(names[index] for index in operation.outputs)
        scope = flatbuffer.get_op_scope(operation, subgraph.tensors)
        return Operation(kind, tuple(activations), outputs, scope, constant(weight), constant(bias))


def _make_unique(tensors: list[Any]) -> None:
    """Number the tensors with duplicate names: AI Edge Quantizer identifies tensors by name."""
    seen: set[bytes] = set()
    for index, tensor in enumerate(tensors):
        if tensor.name is None or tensor.name in seen:
            tensor.name = (tensor.name or b"") + b"#%d" % index
        seen.add(tensor.name)
