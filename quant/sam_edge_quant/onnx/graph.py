"""The layers of an ONNX graph, and the INT8 region around those with the scheme `w8a8`.

A convolution alone in INT8 gains nothing between float neighbours: each value is quantized before it and
dequantized after it. So operations without weights join the region as pass-through operations, where all of this
holds:

1. ONNX Runtime's CPU provider computes them on integers (`PASS_THROUGH`).
2. All their float inputs come from INT8 layers or from other pass-through operations: none is quantized for them.
3. At least one of their readers is in INT8: their output is not dequantized at once.

The output of an INT8 `Conv` is always INT8. A `MatMul` or `Gemm` can also give float, bias included, from the same
kernel, and does for float readers. So `Add` and `Concat` join between convolutions only: to quantize the sum of a
product and a residual, as in a transformer, would lose more than it gains.

A `Relu` or `Clip` disappears where it is the only reader of its input: the input takes its range. Right after a
convolution it joins the region whoever reads it, elsewhere by the rule.
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
# Operations that ONNX Runtime 1.32 computes on 8-bit values between a DequantizeLinear and a QuantizeLinear, read off
# its optimized graphs. Pad and Sub, for instance, stay in float there, and so does Resize unless it is `nearest`; it is
# listed for the INT8 operations that read it.
PASS_THROUGH = frozenset(
    {
        *("Add", "Concat", "MaxPool", "Resize", "Clip", "Relu"),
        *("Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)
BOUNDS = ("Clip", "Relu")
_SEVERAL_INPUTS = ("Add", "Concat")  # of the others, only the first input is an activation


class Wiring:
    """The constants of a graph, and the readers of each tensor."""

    def __init__(self, graph: GraphProto) -> None:
        self.outputs = {each.name for each in graph.output}
        self.constants: dict[str, TensorProto] = {each.name: each for each in graph.initializer}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)

    def only_reader(self, name: str) -> NodeProto | None:
        """The only operation that reads a tensor; None if there are others, or it is an output of the graph."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


@dataclass(frozen=True)
class OnnxLayer:
    """An operation with a constant weight of two axes or more, and the `Add` of its bias if that is separate.

    Attributes:
        node: the operation.
        weight: as it is stored.
        bias: name of the bias that `addition` adds; None if the operation has its own, or none.
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
    def output(self) -> str:
        """Name of the layer's output, bias included."""
        return str((self.addition or self.node).output[0])

    @property
    def channel_axis(self) -> int:
        """The weight's axis of output channels."""
        if self.kind == "Gemm":
            return 0 if self.is_transposed else 1
        return {"Conv": 0, "ConvTranspose": 1}.get(self.kind, self.weight.ndim - 1)

    @property
    def is_depthwise(self) -> bool:
        """Whether it is a depthwise convolution."""
        return self.kind == "Conv" and self.weight.shape[1] == 1 and attribute(self.node, "group", 1) > 1

    @property
    def is_transposed(self) -> bool:
        """Whether it multiplies by the transpose of its weight."""
        return self.kind == "Gemm" and bool(attribute(self.node, "transB", 0))

    @property
    def is_plain_product(self) -> bool:
        """Whether it is a product with a constant matrix, with nothing but a bias added."""
        if self.kind == "Gemm":
            return not attribute(self.node, "transA", 0) and all(
                attribute(self.node, factor, 1.0) == 1.0 for factor in ("alpha", "beta")
            )
        return self.kind == "MatMul" and self.weight.ndim == 2


def layers_of(graph: GraphProto) -> list[OnnxLayer]:
    """A graph's layers, in the graph's order."""
    wiring = Wiring(graph)
    found = []
    for node in graph.node:
        stored = wiring.constants.get(node.input[1]) if node.op_type in LAYERS else None
        if stored is not None and stored.data_type == TensorProto.FLOAT and len(stored.dims) >= 2:
            found.append(OnnxLayer(node, numpy_helper.to_array(stored), *_bias_after(node, wiring)))
    return found


def _bias_after(node: NodeProto, wiring: Wiring) -> tuple[str | None, NodeProto | None]:
    """The bias that an `Add` adds to a `MatMul`, one number for each channel, and the `Add`."""
    follower = wiring.only_reader(node.output[0]) if node.op_type == "MatMul" else None
    if follower is None or follower.op_type != "Add":
        return None, None
    other = follower.input[1] if follower.input[0] == node.output[0] else follower.input[0]
    stored = wiring.constants.get(other)
    channels = wiring.constants[node.input[1]].dims[-1]
    return (other, follower) if stored is not None and list(stored.dims) == [channels] else (None, None)


@dataclass(frozen=True)
class Int8Region:
    """The part of a graph that is computed in INT8.

    Attributes:
        layers: the layers.
        pass_through: the operations between them.
        tensors: names of the quantized activations, in the graph's order.
        bounded: for each of them that a disappearing `Relu` or `Clip` reads, the name of that operation's output, whose
            range it takes.
    """

    layers: Sequence[OnnxLayer]
    pass_through: Sequence[NodeProto]
    tensors: Sequence[str]
    bounded: dict[str, str]

    @property
    def measured(self) -> list[str]:
        """Names of the activations whose range calibration has to find."""
        return [name for name in self.tensors if name not in self.bounded]

    @property
    def readers(self) -> set[str]:
        """Names of the operations that read quantized activations."""
        return {str(node.name) for node in (*(layer.node for layer in self.layers), *self.pass_through)}

    @property
    def quantized_outputs(self) -> set[str]:
        """Tensors that exist in INT8 only."""
        convolved = {layer.output for layer in self.layers if layer.kind == "Conv"}
        return convolved.union(*(node.output for node in self.pass_through))


def int8_region(graph: GraphProto, layers: Sequence[OnnxLayer]) -> Int8Region:
    """The region of INT8 `layers`, by the rule in the module's docstring."""
    wiring = Wiring(graph)
    convolved = {layer.output for layer in layers if layer.kind == "Conv"}
    wanted = {str(layer.node.input[0]) for layer in layers}
    chosen: list[NodeProto] = []
    for node in reversed(_candidates(graph, layers, wiring)):
        if wanted.intersection(node.output) or (node.op_type in BOUNDS and node.input[0] in convolved):
            chosen.insert(0, node)
            wanted.update(_activations(node))
    quantized = wanted.union(convolved, *(node.output for node in chosen))
    order = dict.fromkeys(name for node in graph.node for name in (*node.input, *node.output))
    bounded = {str(node.input[0]): str(node.output[0]) for node in chosen if node.op_type in BOUNDS}
    return Int8Region(layers, chosen, [name for name in order if name in quantized], bounded)


def _candidates(graph: GraphProto, layers: Sequence[OnnxLayer], wiring: Wiring) -> list[NodeProto]:
    """Operations that can pass INT8 through: all that they read is in INT8, or can be."""
    found = []
    quantized = {layer.output for layer in layers if layer.kind == "Conv"}
    quantizable = {layer.output for layer in layers}
    for node in graph.node:
        read = set(_activations(node))
        if node.op_type not in PASS_THROUGH or not read <= (
            quantized if node.op_type in _SEVERAL_INPUTS else quantizable
        ):
            continue
        if node.op_type not in BOUNDS or (wiring.only_reader(node.input[0]) and _keeps_zero(node, wiring)):
            found.append(node)
            quantizable.update(node.output)
            quantized.update(node.output if read <= quantized else ())
    return found


def _activations(node: NodeProto) -> list[str]:
    return list(node.input) if node.op_type in _SEVERAL_INPUTS else [node.input[0]]


def _keeps_zero(node: NodeProto, wiring: Wiring) -> bool:
    """Whether zero is within a bound's limits; INT8 ranges always hold zero, so they cannot be cut to others."""
    limits = limits_of(node, wiring.constants)
    return limits is not None and limits[0] <= 0 <= limits[1]


def limits_of(node: NodeProto, constants: dict[str, TensorProto]) -> tuple[float, float] | None:
    """The limits to which a `Relu` or `Clip` clips its input; None if they are not constant."""
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
    """The value of an operation's attribute, or ONNX' default if it is missing."""
    found = [each for each in node.attribute if each.name == name]
    return onnx.helper.get_attribute_value(found[0]) if found else default
