"""Activations of an ONNX graph in eight bits, by ranges that are known beforehand.

The form is QDQ: QuantizeLinear and DequantizeLinear around what ONNX Runtime is to compute in whole numbers, put there
by its own `QDQQuantizer`. Weights are rounded by output channel and symmetrically, biases to int32 in units of the
input's scale times the weight's; where these are so small that a bias would not fit, the quantizer enlarges the
weight's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_dequant_output_suffix, add_infer_metadata

from sam_edge_quant.ranges.ranges import Range

from .graph import EightBits


class _TensorByTensor(QDQQuantizer):  # type: ignore[misc]  # onnxruntime has no types
    """ONNX Runtime's quantizer, which rounds no activation but those that it is told.

    By itself it rounds whatever goes in and out of the operations that it is given.
    """

    told: frozenset[str] = frozenset()

    def quantize_activation_tensor(self, tensor_name: str) -> None:
        if tensor_name in self.told:
            super().quantize_activation_tensor(tensor_name)

    def quantize_output_same_as_input(self, output_name: str, input_name: str, node_name: str) -> None:
        if output_name in self.told:
            super().quantize_output_same_as_input(output_name, input_name, node_name)


def round_activations(
    model: ModelProto,
    region: EightBits,
    ranges: Mapping[str, Range],
    scales: Sequence[npt.NDArray[np.float32]],
    arm: bool,
) -> None:
    """The way `w8a8`: QuantizeLinear and DequantizeLinear on the region's tensors, whole numbers for its weights.

    Args:
        model: it is changed in place.
        region: what is to be in eight bits.
        ranges: of all its tensors.
        scales: by channel of the weight of each of its layers; what these multiply is whole already.
        arm: whether activations are signed.
    """
    add_infer_metadata(model)  # says that the graph knows its types; else it is written to disk to infer them
    weights = {
        str(layer.node.input[1]): [
            {"axis": layer.channel_axis, "scale": scale, "zero_point": np.int8(0)} for scale in each
        ]
        for layer, each in zip(region.layers, scales, strict=True)
    }
    quantizer = _TensorByTensor(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if arm else QuantType.QUInt8,
        tensors_range={
            name: TensorData(lowest=np.float32(each.low), highest=np.float32(each.high))
            for name, each in ranges.items()
        },
        nodes_to_quantize=sorted(region.readers),
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({str(node.op_type) for node in model.graph.node}),
        extra_options={"TensorQuantOverrides": weights},
    )
    quantizer.told = frozenset(region.tensors)
    for layer in region.layers:
        if layer.addition is not None:
            # With its bias in whole numbers too, a product is one operation (QGemm) that ends in float or eight bits.
            quantizer.quantize_activation_tensor(layer.answer)
            quantizer.quantize_bias_tensor(layer.addition.name, layer.bias, *layer.node.input[:2])
    quantizer.quantize_model()
    _leave_float_between_floats(model.graph, region)


def _leave_float_between_floats(graph: GraphProto, region: EightBits) -> None:
    """Have operations in float read what others make in float, rather than what eight bits are left of it.

    The quantizer gives all readers of a tensor the rounded one.
    """
    made_in_float = set(region.tensors) - region.rounded_answers
    unrounded = {add_dequant_output_suffix(name): name for name in made_in_float}
    for node in graph.node:
        if node.name not in region.readers:
            for place, name in enumerate(node.input):
                node.input[place] = unrounded.get(name, name)
