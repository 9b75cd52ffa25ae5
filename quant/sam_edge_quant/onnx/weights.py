"""Weights of an ONNX graph's layers in fewer bits, and the layers whose activations need no calibration.

`w8`: the weight as int8 by channel, with a Cast and a Mul that make floats of it again. ONNX Runtime does so once, when
it loads the file, and then computes what it would in fp32. A DequantizeLinear it would leave standing for the sake of
eight-bit kernels: the weight is unpacked in each call, a convolution loses the blocked layout that constant weights
get, which makes it slower than in fp32, and ONNX Runtime 1.32 turns a `MatMul` into MatMulNBits, which rounds
activations too.

`dynamic`: DynamicQuantizeLinear, MatMulInteger and what makes floats of its sums, in the form that ONNX Runtime's
`quantize_dynamic` writes and its optimizer fuses (DynamicQuantizeMatMul). That function itself would not do: it takes
every `Gemm` of a file apart, those of other recipes too, and writes the whole model to disk on its way.

`w4`: MatMulNBits, by ONNX Runtime's own quantizer: blocks of 32 weights with a scale and a zero point each, computed in
float. ONNX proper has DequantizeLinear by blocks instead, but from opset 21 on, and the bundles have 20.

On x86 without VNNI, ONNX Runtime multiplies unsigned activations by signed weights with `vpmaddubsw`, which adds two
neighbouring products into sixteen bits and cuts off what is more. Its advice is weights of seven bits (`reduce_range`,
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html), which halves their resolution
everywhere. Here a channel's scale grows only as far as its own neighbours need: no two weights that meet in such a sum
add up to more than 128. For two equal ones that is seven bits, for most channels nearly eight. So little is lost that
artifacts for Arm have it too, and give the same numbers everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import prod

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, TensorProto, numpy_helper

from sam_edge_quant.methods.squant import round_preserving_sums
from sam_edge_quant.methods.weight_scales import preserved_scales
from sam_edge_runtime.arrays import Array

from .graph import Layer

BLOCK = 32  # weights that share a scale in four bits
MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operations


def scales_of(layer: Layer, avoid_saturation: bool) -> npt.NDArray[np.float32]:
    """The scale of each channel of a layer's weight in eight bits.

    Args:
        layer: with `n` channels.
        avoid_saturation: whether neighbouring products are added in sixteen bits. A depthwise kernel never does that.

    Returns:
        (n,); 1 for a channel without weights.
    """
    return preserved_scales(_rows(layer), avoid_saturation=avoid_saturation and not layer.is_depthwise).astype(
        np.float32
    )


def whole_numbers(layer: Layer) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """A layer's weight in eight bits, for a product in float.

    A decoder's lean form (`sam_edge.model.lean`) has weights taken apart by heads, some of them turned: its first axis
    counts heads, and one of the other two the channels of a head. The one by which less is lost is taken.

    Returns:
        The numbers, and the scales in a shape that multiplies them.
    """
    weight = layer.weight
    tried = []
    for axes in ((0, 1), (0, 2)) if layer.kind == "MatMul" and weight.ndim == 3 else ((layer.channel_axis,),):
        order = (*axes, *(axis for axis in range(weight.ndim) if axis not in axes))
        rows = weight.transpose(order).reshape(prod(weight.shape[axis] for axis in axes), -1)
        scales = preserved_scales(rows).astype(np.float32)
        numbers = round_preserving_sums(rows, scales, 0)
        lost = float(np.square(numbers * scales[:, None] - rows).sum())
        turned = numbers.reshape([weight.shape[axis] for axis in order]).transpose(np.argsort(order))
        shape = [size if axis in axes else 1 for axis, size in enumerate(weight.shape)]
        tried.append((lost, turned, scales.reshape(shape)))
    _, numbers, scales = min(tried, key=lambda each: each[0])
    return np.ascontiguousarray(numbers), scales


def _rows(layer: Layer) -> Array:
    """A weight as (channels, inputs), inputs in the order in which ONNX Runtime sums them up: channels innermost."""
    moved = np.moveaxis(layer.weight, layer.channel_axis, 0)
    if layer.kind == "Conv":
        moved = np.moveaxis(moved, 1, -1)  # (out, *kernel, in)
    return moved.reshape(len(moved), -1)


class Rewriting:
    """Puts layers of a graph into another form; its operations are to be sorted afterwards."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._constants = {each.name: each for each in graph.initializer}
        self._made = {name for node in graph.node for name in node.output}
        self._readers = Counter(name for node in graph.node for name in node.input)

    def keep_weight_in_eight_bits(self, layer: Layer) -> None:
        """The way `w8`."""
        name = layer.node.input[1]
        whole, steps = whole_numbers(layer)
        numbers, scale = self._constants_of(f"{name}_w8", numbers=whole, scale=steps)
        self._operation("Cast", [numbers], f"{name}_w8_whole", to=TensorProto.FLOAT)
        self._operation("Mul", [f"{name}_w8_whole", scale], f"{name}_w8_float")
        layer.node.input[1] = f"{name}_w8_float"

    def quantize_input_in_each_call(self, layer: Layer) -> None:
        """The way `dynamic`, for a plain product."""
        read, name, product = layer.node.input[0], _matrix_name(layer), self._without_bias(layer)
        scales = scales_of(layer, avoid_saturation=True)
        numbers = _matrix(layer, round_preserving_sums(layer.weight, scales, layer.channel_axis))
        weight, scale, zero_point = self._constants_of(
            f"{name}_i8", numbers=numbers, scale=scales, zero_point=np.zeros(scales.shape, np.int8)
        )
        rounded_input = [f"{read}_{part}" for part in ("u8", "u8_scale", "u8_zero_point")]
        self._operation("DynamicQuantizeLinear", [read], *rounded_input)
        self._operation("MatMulInteger", [rounded_input[0], weight, rounded_input[2], zero_point], f"{product}_sums")
        self._operation("Cast", [f"{product}_sums"], f"{product}_float_sums", to=TensorProto.FLOAT)
        self._operation("Mul", [rounded_input[1], scale], f"{product}_scale")
        self._operation("Mul", [f"{product}_float_sums", f"{product}_scale"], product)

    def keep_weight_in_four_bits(self, layer: Layer) -> None:
        """The way `w4`, for a plain product."""
        # Sets up logging for the whole process when it is imported; the caller undoes that.
        from onnxruntime.quantization import matmul_nbits_quantizer as nbits  # noqa: PLC0415

        name, product = _matrix_name(layer), self._without_bias(layer)
        node = onnx.helper.make_node("MatMul", [layer.node.input[0], name], [product], product)
        # A graph of its own, for the quantizer appends its constants without asking what is there already.
        matrix = np.ascontiguousarray(_matrix(layer, layer.weight))
        aside = GraphProto(initializer=[numpy_helper.from_array(matrix, name)])
        quantizer = nbits.DefaultWeightOnlyQuantizer(nbits.DefaultWeightOnlyQuantConfig(block_size=BLOCK))
        made = quantizer.quantize(node, [aside])
        self._graph.node.extend(made)
        self._add_constants(each for each in aside.initializer if each.name != name)

    def put_weight_on_grid(self, layer: Layer) -> npt.NDArray[np.float32]:
        """The way `w8a8` has ONNX Runtime's quantizer round a weight: leave nothing to round, and give it the scales.

        Returns:
            (channels,), the scales.
        """
        scales = scales_of(layer, avoid_saturation=True)
        on_grid = round_preserving_sums(layer.weight, scales, layer.channel_axis) * _along(layer, scales)
        name = layer.node.input[1]
        if self._readers[name] > 1:  # another may want it in float, or has its channels along another axis
            (layer.node.input[1],) = self._constants_of(name, **{f"by_axis_{layer.channel_axis}": on_grid})
        else:
            self._constants[name].CopyFrom(numpy_helper.from_array(on_grid, name))
        return scales

    def _without_bias(self, layer: Layer) -> str:
        """Take out a plain product; the name under which its result is awaited, by the addition of its bias."""
        node = layer.node
        self._graph.node.remove(node)
        self._made.difference_update(node.output)
        if node.op_type == "MatMul" or len(node.input) < 3:
            return str(node.output[0])
        product = f"{node.output[0]}_without_bias"
        self._operation("Add", [product, node.input[2]], node.output[0])
        return product

    def _constants_of(self, name: str, **values: Array) -> list[str]:
        """Names of constants that begin with `name`; where another layer shares its weight, they are there already."""
        self._add_constants(numpy_helper.from_array(each, f"{name}_{part}") for part, each in values.items())
        return [f"{name}_{part}" for part in values]

    def _add_constants(self, constants: Iterable[TensorProto]) -> None:
        new = [each for each in constants if each.name not in self._constants]
        self._graph.initializer.extend(new)
        self._constants.update((each.name, each) for each in new)

    def _operation(self, kind: str, inputs: list[str], *outputs: str, **attributes: int) -> None:
        """Append an operation, unless it is there for another layer with the same weight or input."""
        if outputs[0] not in self._made:
            node = onnx.helper.make_node(kind, inputs, outputs, f"{outputs[0]}_{kind}")
            node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
            self._graph.node.append(node)
            self._made.update(outputs)


def _along(layer: Layer, scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scales by channel in a shape that multiplies the weight."""
    return scales.reshape([-1 if axis == layer.channel_axis else 1 for axis in range(layer.weight.ndim)])


def _matrix(layer: Layer, weight: Array) -> Array:
    """The weight of a plain product as (inputs, outputs)."""
    return weight.T if layer.is_transposed else weight


def _matrix_name(layer: Layer) -> str:
    """What that is called; a weight may be shared by products with it and with its transpose."""
    return f"{layer.node.input[1]}_transposed" if layer.is_transposed else str(layer.node.input[1])
