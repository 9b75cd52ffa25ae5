"""What of an ONNX graph is computed in eight bits: its layers, and what lies between them.

A convolution alone in eight bits gains nothing where its neighbours are in float: each value is converted on the way in
and on the way out. So operations without weights, "glue", are taken along. The rule for each of them:

1. ONNX Runtime's CPU computes it on whole numbers (`GLUE`).
2. All its float inputs come from layers in eight bits or from other such glue: nothing is converted for its sake.
3. One of its readers is in eight bits: its answer is not converted back at once.

A `Conv` in eight bits has no other answer. A `MatMul` or `Gemm` can answer in float too, bias and all, from one kernel,
and does for readers in float. That is why `Add` and `Concat` are glue between convolutions only: the sum of a product
and of what went past it, as in a transformer, would lose more than it gains.

A `Relu` or `Clip` costs nothing where it is the only reader of what it bounds: those numbers take its own range, and it
vanishes. Right after a convolution it does whoever reads it, elsewhere by the rule, and it is glue in no other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import onnx
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from sam_edge_runtime.arrays import Array

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What ONNX Runtime 1.32 computes on eight-bit values between a DequantizeLinear and a QuantizeLinear, found by
# looking at its optimized graphs. Pad and Sub, for instance, it keeps in float there. So it does with Resize but for
# `nearest`, which is here for the sake of what reads it.
GLUE = frozenset(
    {
        *("Add", "Concat", "MaxPool", "Resize", "Clip", "Relu"),
        *("Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)
BOUNDS = ("Clip", "Relu")
_SEVERAL_INPUTS = ("Add", "Concat")  # of the others, only the first input is an activation


class Wiring:
    """Who makes and who reads each tensor of a graph."""

    def __init__(self, graph: GraphProto) -> None:
        self.outputs = {each.name for each in graph.output}
        self.constants: dict[str, TensorProto] = {each.name: each for each in graph.initializer}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)

    def only_reader(self, name: str) -> NodeProto | None:
        """The one operation that reads a tensor; None where others do too, or it is an output."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


@dataclass(frozen=True)
class Layer:
    """An operation with a constant weight of two axes or more, and the addition of its bias if that is another.

    Attributes:
        node: the operation.
        weight: the weight as it is stored.
        bias: the name of the bias that `addition` adds; None: the operation has its own, or none.
        addition: the `Add` of a bias that follows a `MatMul`.
    """

    node: NodeProto
    weight: Array
    bias: str | None = None
    addition: NodeProto | None = None

    @property
    def kind(self) -> str:
        """The operation's type."""
        return str(self.node.op_type)

    @property
    def answer(self) -> str:
        """The tensor with the layer's result."""
        return str((self.addition or self.node).output[0])

    @property
    def channel_axis(self) -> int:
        """The weight's axis with one entry for each channel of the result."""
        if self.kind == "Gemm":
            return 0 if self.is_transposed else 1
        return {"Conv": 0, "ConvTranspose": 1}.get(self.kind, self.weight.ndim - 1)

    @property
    def is_depthwise(self) -> bool:
        """Whether it is a convolution of each channel by itself."""
        return self.kind == "Conv" and self.weight.shape[1] == 1 and attribute(self.node, "group", 1) > 1

    @property
    def is_transposed(self) -> bool:
        """Whether it multiplies by the transpose of its weight."""
        return self.kind == "Gemm" and bool(attribute(self.node, "transB", 0))

    @property
    def is_plain_product(self) -> bool:
        """Whether it multiplies by a matrix and does nothing else but add a bias."""
        if self.kind == "Gemm":
            return not attribute(self.node, "transA", 0) and all(
                attribute(self.node, factor, 1.0) == 1.0 for factor in ("alpha", "beta")
            )
        return self.kind == "MatMul" and self.weight.ndim == 2


def layers_of(graph: GraphProto) -> list[Layer]:
    """A graph's layers, in its order."""
    wiring = Wiring(graph)
    found = []
    for node in graph.node:
        stored = wiring.constants.get(node.input[1]) if node.op_type in LAYERS else None
        if stored is not None and stored.data_type == TensorProto.FLOAT and len(stored.dims) >= 2:
            found.append(Layer(node, numpy_helper.to_array(stored), *_bias_after(node, wiring)))
    return found


def _bias_after(node: NodeProto, wiring: Wiring) -> tuple[str | None, NodeProto | None]:
    """The bias of a `MatMul`, one number for each channel, and its addition."""
    follower = wiring.only_reader(node.output[0]) if node.op_type == "MatMul" else None
    if follower is None or follower.op_type != "Add":
        return None, None
    other = follower.input[1] if follower.input[0] == node.output[0] else follower.input[0]
    stored = wiring.constants.get(other)
    channels = wiring.constants[node.input[1]].dims[-1]
    return (other, follower) if stored is not None and list(stored.dims) == [channels] else (None, None)


@dataclass(frozen=True)
class EightBits:
    """What is computed in eight bits.

    Attributes:
        layers: the layers.
        glue: the operations between them.
        tensors: names of the activations that are rounded to eight bits, in the graph's order.
        bounded: of these, the ones right before a `Relu` or `Clip` that vanishes, with the name of its answer, whose
            range they take.
    """

    layers: Sequence[Layer]
    glue: Sequence[NodeProto]
    tensors: Sequence[str]
    bounded: dict[str, str]

    @property
    def measured(self) -> list[str]:
        """Names of the activations whose range has to be found."""
        return [name for name in self.tensors if name not in self.bounded]

    @property
    def readers(self) -> set[str]:
        """Names of the operations that read activations in eight bits."""
        return {str(node.name) for node in (*(layer.node for layer in self.layers), *self.glue)}

    @property
    def rounded_answers(self) -> set[str]:
        """Tensors that whoever makes them has in eight bits only."""
        convolved = {layer.answer for layer in self.layers if layer.kind == "Conv"}
        return convolved.union(*(node.output for node in self.glue))


def eight_bits(graph: GraphProto, layers: Sequence[Layer]) -> EightBits:
    """What is to be computed in eight bits if `layers` are: the rule at the head of this file."""
    wiring = Wiring(graph)
    convolved = {layer.answer for layer in layers if layer.kind == "Conv"}
    wanted = {str(layer.node.input[0]) for layer in layers}
    glue: list[NodeProto] = []
    for node in reversed(_between(graph, layers, wiring)):
        if wanted.intersection(node.output) or (node.op_type in BOUNDS and node.input[0] in convolved):
            glue.insert(0, node)
            wanted.update(_activations(node))
    rounded = wanted.union(convolved, *(node.output for node in glue))
    order = dict.fromkeys(name for node in graph.node for name in (*node.input, *node.output))
    bounded = {str(node.input[0]): str(node.output[0]) for node in glue if node.op_type in BOUNDS}
    return EightBits(layers, glue, [name for name in order if name in rounded], bounded)


def _between(graph: GraphProto, layers: Sequence[Layer], wiring: Wiring) -> list[NodeProto]:
    """Operations that could be glue: all that they read comes in eight bits, or can."""
    found = []
    rounded = {layer.answer for layer in layers if layer.kind == "Conv"}
    coming = {layer.answer for layer in layers}
    for node in graph.node:
        read = set(_activations(node))
        if node.op_type not in GLUE or not read <= (rounded if node.op_type in _SEVERAL_INPUTS else coming):
            continue
        if node.op_type not in BOUNDS or (wiring.only_reader(node.input[0]) and _holds_zero(node, wiring)):
            found.append(node)
            coming.update(node.output)
            rounded.update(node.output if read <= rounded else ())
    return found


def _activations(node: NodeProto) -> list[str]:
    return list(node.input) if node.op_type in _SEVERAL_INPUTS else [node.input[0]]


def _holds_zero(node: NodeProto, wiring: Wiring) -> bool:
    """Whether a bound leaves zero alone; ranges in eight bits always hold it, so that no other can be cut to."""
    limits = limits_of(node, wiring.constants)
    return limits is not None and limits[0] <= 0 <= limits[1]


def limits_of(node: NodeProto, constants: dict[str, TensorProto]) -> tuple[float, float] | None:
    """Between which numbers a `Relu` or `Clip` leaves its input; None where that is computed."""
    if node.op_type == "Relu":
        return 0.0, inf
    found = [-inf, inf]
    for place, name in enumerate(node.input[1:3]):
        if name and name not in constants:
            return None
        if name:
            found[place] = float(numpy_helper.to_array(constants[name]))
    return found[0], found[1]


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of an operation's attribute, or what ONNX says it is where it is missing."""
    found = [each for each in node.attribute if each.name == name]
    return onnx.helper.get_attribute_value(found[0]) if found else default
