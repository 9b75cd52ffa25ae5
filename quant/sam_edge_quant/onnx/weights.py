"""The schemes of an ONNX graph's layers that need no calibration, and the rounding of weights for the one that does.

`w8`: the weight as int8 with a scale for each channel, then a Cast and a Mul. ONNX Runtime folds them when it loads the
file, and computes as in fp32. It would not fold a DequantizeLinear, which INT8 kernels read: the weight is unpacked in
each call; a convolution loses the blocked layout of constant weights and becomes slower than in fp32; and ONNX Runtime
1.32 turns a `MatMul` into MatMulNBits, which quantizes activations too.

`dynamic`: DynamicQuantizeLinear, MatMulInteger, and a conversion of its sums to float, in the form that ONNX Runtime's
`quantize_dynamic` writes and its optimizer fuses (DynamicQuantizeMatMul). That function is not used, because it splits
every `Gemm` of a file, also those with other schemes, and writes the whole model to disk.

`w4`: MatMulNBits, by ONNX Runtime's own quantizer: blocks of 32 weights with a scale and a zero point each, computed in
float. The standard ONNX form, a blockwise DequantizeLinear, needs opset 21; the bundles have 20.

`w8a8`: weights are rounded here, to integer multiples of the scales that `static` passes to ONNX Runtime's quantizer.

On x86 without VNNI, ONNX Runtime multiplies unsigned activations by signed weights with `vpmaddubsw`, which adds two
neighbouring products in 16 bits and saturates. ONNX Runtime's advice is 7-bit weights (`reduce_range`,
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html), which halves their resolution
everywhere. Here a channel's scale grows only as far as its own neighbours need: no two weights of such a sum add up to
more than 128. For two equal weights that is 7 bits, for most channels nearly 8. So little is lost that artifacts for
Arm have it too, and give the same outputs everywhere.
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
from sam_edge_runtime.arrays import Array, Float32

from .graph import OnnxLayer

BLOCK = 32  # weights of a 4-bit block, which share a scale
MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operations


def scales_of(layer: OnnxLayer, avoid_saturation: bool) -> Float32:
    """The INT8 scale of each channel of a layer's weight.

    Args:
        layer: a layer.
        avoid_saturation: whether the kernel adds neighbouring products in 16 bits; one for depthwise convolutions never
            does.

    Returns:
        (channels,); 1 for a channel whose weights are all zero.
    """
    return preserved_scales(_rows(layer), avoid_saturation=avoid_saturation and not layer.is_depthwise).astype(
        np.float32
    )


def int8_weight(layer: OnnxLayer) -> tuple[npt.NDArray[np.int8], Float32]:
    """A layer's weight in INT8, for a product in float.

    Weights of three axes are an attention's, split by heads (`sam_edge.model.lean`): the first axis is that of heads,
    one of the other two that of a head's channels, which may be transposed. The one that loses less is taken.

    Returns:
        The integers, and the scales in a shape that broadcasts with them.
    """
    weight = layer.weight
    candidates = []
    for axes in ((0, 1), (0, 2)) if layer.kind == "MatMul" and weight.ndim == 3 else ((layer.channel_axis,),):
        order = (*axes, *(axis for axis in range(weight.ndim) if axis not in axes))
        rows = weight.transpose(order).reshape(prod(weight.shape[axis] for axis in axes), -1)
        scales = preserved_scales(rows).astype(np.float32)
        integers = round_preserving_sums(rows, scales, 0)
        lost = float(np.square(integers * scales[:, None] - rows).sum())
        transposed = integers.reshape([weight.shape[axis] for axis in order]).transpose(np.argsort(order))
        shape = [size if axis in axes else 1 for axis, size in enumerate(weight.shape)]
        candidates.append((lost, transposed, scales.reshape(shape)))
    _, integers, scales = min(candidates, key=lambda each: each[0])
    return np.ascontiguousarray(integers), scales


def _rows(layer: OnnxLayer) -> Array:
    """A weight as (channels, inputs), inputs in the order in which ONNX Runtime sums products: channels innermost."""
    moved = np.moveaxis(layer.weight, layer.channel_axis, 0)
    if layer.kind == "Conv":
        moved = np.moveaxis(moved, 1, -1)  # (out, *kernel, in)
    return moved.reshape(len(moved), -1)


class WeightRewriter:
    """Rewrites layers of a graph in place; its operations have to be sorted afterwards."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._constants = {each.name: each for each in graph.initializer}
        self._made = {name for node in graph.node for name in node.output}
        self._readers = Counter(name for node in graph.node for name in node.input)

    def apply_w8(self, layer: OnnxLayer) -> None:
        """Store the weight in INT8."""
        name = layer.node.input[1]
        integers, scales = int8_weight(layer)
        numbers, scale = self._constants_of(f"{name}_w8", numbers=integers, scale=scales)
        self._operation("Cast", [numbers], f"{name}_w8_whole", to=TensorProto.FLOAT)
        self._operation("Mul", [f"{name}_w8_whole", scale], f"{name}_w8_float")
        layer.node.input[1] = f"{name}_w8_float"

    def apply_dynamic(self, layer: OnnxLayer) -> None:
        """Quantize the weight, and the input in each call; the layer is a plain product."""
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

    def apply_w4(self, layer: OnnxLayer) -> None:
        """Store the weight in 4 bits; the layer is a plain product."""
        # Configures logging for the whole process when it is imported; the caller restores it.
        from onnxruntime.quantization import matmul_nbits_quantizer as nbits  # noqa: PLC0415

        name, product = _matrix_name(layer), self._without_bias(layer)
        node = onnx.helper.make_node("MatMul", [layer.node.input[0], name], [product], product)
        # In a separate graph, because the quantizer appends constants without looking for existing ones.
        matrix = np.ascontiguousarray(_matrix(layer, layer.weight))
        separate = GraphProto(initializer=[numpy_helper.from_array(matrix, name)])
        quantizer = nbits.DefaultWeightOnlyQuantizer(nbits.DefaultWeightOnlyQuantConfig(block_size=BLOCK))
        made = quantizer.quantize(node, [separate])
        self._graph.node.extend(made)
        self._add_constants(each for each in separate.initializer if each.name != name)

    def round_weight(self, layer: OnnxLayer) -> Float32:
        """Round the weight to multiples of its scales, so that ONNX Runtime's quantizer has nothing left to round.

        Returns:
            The scales, (channels,).
        """
        scales = scales_of(layer, avoid_saturation=True)
        rounded = round_preserving_sums(layer.weight, scales, layer.channel_axis) * _along(layer, scales)
        name = layer.node.input[1]
        if self._readers[name] > 1:  # another layer may read it in float, or along another axis
            (layer.node.input[1],) = self._constants_of(name, **{f"by_axis_{layer.channel_axis}": rounded})
        else:
            self._constants[name].CopyFrom(numpy_helper.from_array(rounded, name))
        return scales

    def _without_bias(self, layer: OnnxLayer) -> str:
        """Remove a plain product, and return the name that its replacement's output has before the bias."""
        node = layer.node
        self._graph.node.remove(node)
        self._made.difference_update(node.output)
        if node.op_type == "MatMul" or len(node.input) < 3:
            return str(node.output[0])
        product = f"{node.output[0]}_without_bias"
        self._operation("Add", [product, node.input[2]], node.output[0])
        return product

    def _constants_of(self, name: str, **values: Array) -> list[str]:
        """Add constants and return their names, which begin with `name`; layers that share a weight share them."""
        self._add_constants(numpy_helper.from_array(each, f"{name}_{part}") for part, each in values.items())
        return [f"{name}_{part}" for part in values]

    def _add_constants(self, constants: Iterable[TensorProto]) -> None:
        new = [each for each in constants if each.name not in self._constants]
        self._graph.initializer.extend(new)
        self._constants.update((each.name, each) for each in new)

    def _operation(self, kind: str, inputs: list[str], *outputs: str, **attributes: int) -> None:
        """Append an operation, unless another layer with the same weight or input has added it."""
        if outputs[0] not in self._made:
            node = onnx.helper.make_node(kind, inputs, outputs, f"{outputs[0]}_{kind}")
            node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
            self._graph.node.append(node)
            self._made.update(outputs)


def _along(layer: OnnxLayer, scales: Float32) -> Float32:
    """Scales (channels,) in a shape that broadcasts with the weight."""
    return scales.reshape([-1 if axis == layer.channel_axis else 1 for axis in range(layer.weight.ndim)])


def _matrix(layer: OnnxLayer, weight: Array) -> Array:
    """The weight of a plain product as (inputs, outputs)."""
    return weight.T if layer.is_transposed else weight


def _matrix_name(layer: OnnxLayer) -> str:
    """Its name; products with a weight and with its transpose may share the weight."""
    return f"{layer.node.input[1]}_transposed" if layer.is_transposed else str(layer.node.input[1])
