"""The widths of an ONNX graph's operations in the form of `npu`, and the operations that others absorb.

An operation with a weight takes and gives the bits of its layer's scheme. One that moves values has the width of its
input. All others that have an integer form compute in 16 bits, the rest in float. A bias that is added to a product
disappears into it, and so does a Relu or Clip after an operation that computes: the range of the output is cut instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from sam_edge_quant.ranges.ranges import Range
from sam_edge_quant.recipe import FLOAT, NPU

from .graph import BOUNDS, OnnxLayer, Wiring, attribute, limits_of

PICTURE = "image"  # the graph's input that is a picture: integers from 0 to 255
BITS = {NPU: 8, "w8a8": 8, "w8a16": 16}  # of a layer's activations, by its scheme
WIDE = 16  # bits of operations without a weight
# Operations that move values: the output has the width, scale and zero point of the first input.
MOVES = frozenset(
    {
        *("DepthToSpace", "Expand", "Flatten", "Gather", "GatherND", "MaxPool", "Pad", "Reshape", "Slice", "Split"),
        *("Squeeze", "Transpose", "Unsqueeze"),
    }
)
# Operations that compute, in 16 bits. All their inputs are activations or constants in the same 16 bits.
COMPUTES = frozenset(
    {"Add", "Concat", "Div", "Gelu", "LayerNormalization", "MatMul", "Mul", "ReduceMean", "Softmax", "Sub"}
)
_WITH_BOUND = frozenset({"Add", "Conv", "Gemm", "MatMul"})  # may absorb the Relu or Clip after them
FIXED_RANGES = {"Softmax": Range(0.0, 1.0)}  # of outputs that need no measurement


@dataclass
class Layout:
    """How a graph's operations compute.

    Attributes:
        layers: by the name of their operation.
        additions: names of the operations that add a layer's bias and disappear.
        bounds: for each operation that absorbs a Relu or Clip, that operation.
        widths: bits of each operation's activations by its name; None for float.
    """

    layers: dict[str, tuple[OnnxLayer, str]]
    additions: set[str] = field(default_factory=set)
    bounds: dict[str, NodeProto] = field(default_factory=dict)
    widths: dict[str, int | None] = field(default_factory=dict)

    def output(self, node: NodeProto) -> list[str]:
        """The tensors that an operation makes when those that it absorbs are gone."""
        if node.name in self.bounds:
            return list(self.bounds[node.name].output)
        layer = self.layers[node.name][0] if node.name in self.layers else None
        if layer is not None and layer.addition is not None and layer.addition.name in self.additions:
            return [layer.output]
        return list(node.output)


def _bits(layer: OnnxLayer, scheme: str) -> int | None:
    """The width of a layer's activations; None where it stays in float, or has no integer form."""
    return BITS.get(scheme) if layer.is_plain_product or layer.kind in ("Conv", "ConvTranspose") else None


def is_for_npu(schemes: Sequence[str]) -> bool:
    """Whether a graph whose layers have these schemes takes the NPU's form."""
    return not {NPU, "w8a16"}.isdisjoint(schemes)


def layout_of(graph: GraphProto, layers: Sequence[tuple[OnnxLayer, str]]) -> Layout:
    """The width of every operation, and the operations that others absorb.

    Args:
        graph: in fp32, its operations in topological order.
        layers: with their schemes.
    """
    wiring = Wiring(graph)
    integer = [layer for layer, scheme in layers if _bits(layer, scheme) is not None]
    layout = Layout({layer.node.name: (layer, scheme) for layer, scheme in layers})
    layout.additions = {layer.addition.name for layer in integer if layer.addition is not None}
    floats = float_tensors(graph)
    absorbed: set[str] = set(layout.additions)
    bits: dict[str, int | None] = {}  # of tensors
    for node in graph.node:
        if node.name in absorbed:
            continue
        width = _width(node, layout, bits, wiring) if node.output[0] in floats else None
        follower = wiring.only_reader(layout.output(node)[0]) if node.op_type in _WITH_BOUND and width else None
        if follower is not None and _is_absorbed(follower, wiring):
            layout.bounds[node.name] = follower
            absorbed.add(follower.name)
        layout.widths[node.name] = width
        bits.update(dict.fromkeys(layout.output(node), width))
    return layout


def float_tensors(graph: GraphProto) -> set[str]:
    """Names of the tensors in float32; a graph computes with integers, too, such as indices."""
    described = (*graph.value_info, *graph.output)
    return {each.name for each in described if each.type.tensor_type.elem_type == TensorProto.FLOAT}


def _width(node: NodeProto, layout: Layout, bits: Mapping[str, int | None], wiring: Wiring) -> int | None:
    if node.name in layout.layers:
        return _bits(*layout.layers[node.name])
    if node.op_type in MOVES | set(BOUNDS):
        source = node.input[0]
        return WIDE if source in wiring.constants else bits.get(source, WIDE)
    return WIDE if node.op_type in COMPUTES or _doubles(node, wiring) else None


def _is_absorbed(node: NodeProto, wiring: Wiring) -> bool:
    """Whether an unsigned range can take the place of a bound: it cuts below zero at zero, or not at all."""
    limits = limits_of(node, wiring.constants) if node.op_type in BOUNDS else None
    return limits is not None and limits[0] <= 0 <= limits[1]


def _doubles(node: NodeProto, wiring: Wiring) -> bool:
    """Whether a Resize repeats each value in a square of two by two."""
    if node.op_type != "Resize" or attribute(node, "mode", b"nearest") != b"nearest" or len(node.input) < 3:
        return False
    scales = wiring.constants.get(node.input[2])
    return (
        scales is not None
        and numpy_helper.to_array(scales).tolist() == [1.0, 1.0, 2.0, 2.0]
        and attribute(node, "coordinate_transformation_mode", b"half_pixel") == b"asymmetric"
        and attribute(node, "nearest_mode", b"round_prefer_floor") == b"floor"
    )


def measured(graph: GraphProto, layout: Layout) -> list[str]:
    """Names of the activations whose range calibration has to find, in the graph's order."""
    found = [each.name for each in graph.input if each.name != PICTURE]
    for node in graph.node:
        if layout.widths.get(node.name) is not None and node.op_type not in MOVES and node.op_type not in FIXED_RANGES:
            found += layout.output(node)
    floats = float_tensors(graph)
    read = {name for node in graph.node if layout.widths.get(node.name) is not None for name in node.input}
    for node in graph.node:  # tensors that float operations make for integer ones
        if node.name in layout.widths and layout.widths[node.name] is None:
            found += [name for name in node.output if name in read and name in floats]
    return found


def schemes_in(layout: Layout) -> Iterator[tuple[OnnxLayer, str]]:
    """Each layer with the scheme that it gets: `fp32` where its operation has no integer form."""
    for name, (layer, scheme) in layout.layers.items():
        yield layer, scheme if layout.widths.get(name) is not None else FLOAT
