"""Static INT8 in an ONNX graph: quantized activations, with ranges from calibration.

The form is QDQ: QuantizeLinear and DequantizeLinear around each INT8 tensor, inserted by ONNX Runtime's own
`QDQQuantizer`. Weights are symmetric, with a scale for each output channel. Biases are int32, with the product of the
input's scale and the weight's; where that is so small that a bias would overflow, the quantizer enlarges the weight's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import GraphProto, ModelProto
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_dequant_output_suffix, add_infer_metadata

from sam_edge_quant.ranges.ranges import Range
from sam_edge_runtime.arrays import Float32

from .graph import Int8Region


class _ChosenTensorsQuantizer(QDQQuantizer):  # type: ignore[misc]  # onnxruntime has no types
    """ONNX Runtime's quantizer, restricted to chosen activations.

    By itself it quantizes all inputs and outputs of the operations that it is given.
    """

    chosen: frozenset[str] = frozenset()

    def quantize_activation_tensor(self, tensor_name: str) -> None:
        if tensor_name in self.chosen:
            super().quantize_activation_tensor(tensor_name)

    def quantize_output_same_as_input(self, output_name: str, input_name: str, node_name: str) -> None:
        if output_name in self.chosen:
            super().quantize_output_same_as_input(output_name, input_name, node_name)


def quantize_activations(
    model: ModelProto,
    region: Int8Region,
    ranges: Mapping[str, Range],
    scales: Sequence[Float32],
    arm: bool,
) -> None:
    """Carry out `w8a8`: quantize the region's activations and weights.

    Args:
        model: changed in place.
        region: the part of the graph to quantize.
        ranges: of all its tensors.
        scales: (channels,) for each of its layers; the weights are integer multiples of them already.
        arm: whether activations are signed.
    """
    add_infer_metadata(model)  # marks types as known; else the quantizer writes the model to disk to infer them
    weights = {
        str(layer.node.input[1]): [
            {"axis": layer.channel_axis, "scale": scale, "zero_point": np.int8(0)} for scale in each
        ]
        for layer, each in zip(region.layers, scales, strict=True)
    }
    quantizer = _ChosenTensorsQuantizer(
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
    quantizer.chosen = frozenset(region.tensors)
    for layer in region.layers:
        if layer.addition is not None:
            # With an integer bias, a product becomes one operation (QGemm), whose output is float or INT8.
            quantizer.quantize_activation_tensor(layer.output)
            quantizer.quantize_bias_tensor(layer.addition.name, layer.bias, *layer.node.input[:2])
    quantizer.quantize_model()
    _restore_float_inputs(model.graph, region)


def _restore_float_inputs(graph: GraphProto, region: Int8Region) -> None:
    """Connect float operations to the float tensors again; the quantizer gives all readers the dequantized ones."""
    made_in_float = set(region.tensors) - region.quantized_outputs
    original = {add_dequant_output_suffix(name): name for name in made_in_float}
    for node in graph.node:
        if node.name not in region.readers:
            for place, name in enumerate(node.input):
                node.input[place] = original.get(name, name)
