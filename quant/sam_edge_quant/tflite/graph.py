"""A TFLite file as graphs of operations, and what of them lies between quantized ones.

A file with several signatures holds a graph for each; they share the weights' buffers and may differ in everything
else, since a converter lays out each call size in its own way. Tensors are known by their names, which are made unique
over the whole file where they are not.
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

_ABSENT = -1  # in an operation's list of inputs
_KINDS = {code: name for name, code in vars(qtyping.BuiltinOperator).items() if isinstance(code, int)}

# Where an operation has its activation, its weight and its bias among its inputs.
_WEIGHTED: dict[str, tuple[int, int, int]] = {
    "FULLY_CONNECTED": (0, 1, 2),
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
    "BATCH_MATMUL": (0, 1, 2),
}
# Glue is of kinds that XNNPACK has in eight bits, or has not in float either.
# These put numbers elsewhere and leave them as they are: quantized or not, the result is the same.
MOVES = frozenset({"MAX_POOL_2D", "PAD", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPLIT", "TRANSPOSE"})
# These make new numbers, which are rounded anew when they are quantized.
_ROUNDS = frozenset({"ADD", "CONCATENATION", "RESIZE_BILINEAR"})
GLUE = MOVES | _ROUNDS
# AI Edge Quantizer gives the results of these the range of what goes in.
KEEP_RANGE = MOVES | {"RESIZE_BILINEAR"}


@dataclass(frozen=True)
class Operation:
    """One operation of a graph.

    Attributes:
        kind: TFLite's name for it.
        inputs: names of the activations in float32 that go in; constants and indices are left out.
        outputs: names of what comes out.
        scope: what AI Edge Quantizer matches its patterns against.
        weight: name of its weight; None where it has none that is constant.
        bias: name of its bias; None where it has none that is constant.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scope: str = ""
    weight: str | None = None
    bias: str | None = None


@dataclass(frozen=True)
class Graph:
    """The operations of one signature, each after those it needs.

    Attributes:
        operations: in the order of the file.
        results: names of the tensors that the signature gives.
    """

    operations: tuple[Operation, ...]
    results: frozenset[str] = frozenset()

    @cached_property
    def makers(self) -> dict[str, int]:
        """Which operation makes a tensor."""
        return {name: place for place, operation in enumerate(self.operations) for name in operation.outputs}

    @cached_property
    def takers(self) -> dict[str, list[int]]:
        """Which operations take a tensor."""
        found: dict[str, list[int]] = {}
        for place, operation in enumerate(self.operations):
            for name in operation.inputs:
                found.setdefault(name, []).append(place)
        return found


def between(graph: Graph, static: Mapping[int, str]) -> dict[int, str]:
    """The glue that is quantized because it lies between quantized operations.

    What lies between quantized operations is quantized: an operation all of whose inputs come from operations that
    compute in whole numbers in one way, and whose result goes to such operations. Else a chain of them would be broken
    by a dequantization and a quantization. Where glue only moves numbers about, one taker of that kind is enough:
    nothing is lost. Where it makes new ones, all takers have to be. So the additions along a transformer's residual
    stream stay in float: their results go to a normalization, which is in float, and on to the next addition, where
    eight bits for each sum would add up to a large error. Those in a MobileNet's blocks go to convolutions and to the
    next addition, and are quantized.

    Args:
        graph: operations in an order in which they can be computed.
        static: the ways of operations whose activations are quantized, by place.

    Returns:
        The way of each piece of such glue, by place.
    """
    ways = dict(static)
    for place, operation in enumerate(graph.operations):
        coming = {ways.get(graph.makers.get(name, _ABSENT)) for name in operation.inputs}
        if operation.kind in GLUE and len(coming) == 1 and (way := coming.pop()) is not None:
            ways[place] = way
    while dropped := [place for place in ways if place not in static and not _lies_between(graph, place, ways)]:
        for place in dropped:
            del ways[place]
    return {place: way for place, way in ways.items() if place not in static}


def _lies_between(graph: Graph, place: int, ways: Mapping[int, str]) -> bool:
    """Whether what surrounds a piece of glue is quantized in its way."""
    operation, way = graph.operations[place], ways[place]
    if not all(ways.get(graph.makers.get(name, _ABSENT)) == way for name in operation.inputs):
        return False
    going = [ways.get(taker) == way for name in operation.outputs for taker in graph.takers.get(name, [])]
    if operation.kind in MOVES:
        return any(going)
    return all(going) and bool(going) and graph.results.isdisjoint(operation.outputs)


def origin(graph: Graph, glue: Mapping[int, str], name: str) -> str:
    """The tensor whose range a tensor has: itself, or what quantized glue has made it from without another range."""
    place = graph.makers.get(name, _ABSENT)
    while place in glue and graph.operations[place].kind in KEEP_RANGE:
        name = graph.operations[place].inputs[0]
        place = graph.makers.get(name, _ABSENT)
    return name


class TfliteFile:
    """The content of a `.tflite` file.

    Attributes:
        path: the file.
        model: AI Edge's object form of it, tensor names made unique. Weights are views of the file.
        signatures: for each signature the place of its graph, in the order of the file.
        graphs: the signatures' graphs.

    Raises:
        ExportError: it cannot be read, or has no signature.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.model: Any = flatbuffer.read_model(str(path))
        except Exception as error:  # of many kinds, from what reads flatbuffers without checking them
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

    def inputs(self, place: int) -> dict[str, str]:
        """Names of the tensors that a signature takes, by the names that it has for them."""
        return self._named(place, self.signatures[place].inputs)

    def outputs(self, place: int) -> dict[str, str]:
        """Names of the tensors that a signature gives, by the names that it has for them."""
        return self._named(place, self.signatures[place].outputs)

    def constant(self, name: str) -> Float32:
        """The numbers of a constant."""
        return np.asarray(flatbuffer.get_tensor_data(self._tensors[name], self.model.buffers), np.float32)

    def buffer(self, name: str) -> int:
        """The place of a constant's numbers; weights that several graphs share have the same."""
        return int(self._tensors[name].buffer)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        shape = self._tensors[name].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def dtype(self, name: str) -> int:
        """A tensor's type, one of `qtyping.TensorType`."""
        return int(self._tensors[name].type)

    def _named(self, place: int, entries: Any) -> dict[str, str]:
        tensors = self.model.subgraphs[self.signatures[place].subgraphIndex].tensors
        return {each.name.decode(): flatbuffer.get_tensor_name(tensors[each.tensorIndex]) for each in entries}

    def _graph(self, subgraph: Any) -> Graph:
        names = [flatbuffer.get_tensor_name(tensor) for tensor in subgraph.tensors]
        operations = tuple(self._operation(operation, subgraph, names) for operation in subgraph.operators)
        return Graph(operations, frozenset(names[index] for index in subgraph.outputs))

    def _operation(self, operation: Any, subgraph: Any, names: list[str]) -> Operation:
        kind = _KINDS[self.model.operatorCodes[operation.opcodeIndex].builtinCode]
        given = [int(index) for index in operation.inputs]
        floats = [subgraph.tensors[index].type == qtyping.TensorType.FLOAT32 for index in given]
        fixed = [self.model.buffers[subgraph.tensors[index].buffer].data is not None for index in given]
        activations = [
            names[index]
            for index, is_float, is_fixed in zip(given, floats, fixed, strict=True)
            if index != _ABSENT and is_float and not is_fixed
        ]

        def constant(place: int) -> str | None:
            there = place < len(given) and given[place] != _ABSENT and floats[place] and fixed[place]
            return names[given[place]] if there else None

        _, weight, bias = _WEIGHTED.get(kind, (0, len(given), len(given)))
        outputs = tuple(names[index] for index in operation.outputs)
        scope = flatbuffer.get_op_scope(operation, subgraph.tensors)
        return Operation(kind, tuple(activations), outputs, scope, constant(weight), constant(bias))


def _make_unique(tensors: list[Any]) -> None:
    """Number the tensors that bear a name which another one bears already: AI Edge Quantizer knows them by name."""
    seen: set[bytes] = set()
    for place, tensor in enumerate(tensors):
        if tensor.name is None or tensor.name in seen:
            tensor.name = (tensor.name or b"") + b"#%d" % place
        seen.add(tensor.name)
