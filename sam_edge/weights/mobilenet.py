"""Pretrained weights for nano's encoder, read from an INT8 MobileNetV2 in TensorFlow Lite's format.

TensorFlow publishes MobileNetV2 for ImageNet quantized after training: kernels as int8 with a scale for each output
channel, biases as int32, batch norms already folded. Older files, such as DeepLab on MobileNetV2 for PASCAL VOC, have
uint8 kernels with one scale and zero point; the same blocks come first. Dequantized (`scale * (q - zero_point)`,
https://arxiv.org/abs/1712.05877, section 2), each weight is within half a scale of the float weight. Only constants of
the flatbuffer are read, through the schema that comes with ai-edge-litert; the network is not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.contract import PIXEL_MEAN, PIXEL_STD
from sam_edge_runtime.errors import CheckpointError
from sam_edge_runtime.system.text import read_regular

MAGIC = b"TFL3"  # the file identifier, at byte 4 of the flatbuffer
HALF_RANGE = 127.5  # MobileNetV2 takes pixels as x / 127.5 - 1
WIDTHS = (16, *(24,) * 2, *(32,) * 3, *(64,) * 4, *(96,) * 3, *(160,) * 3, 320)  # output channels of each block


def _shapes() -> dict[str, tuple[int, ...]]:
    """Kernel shape (out, in / groups, h, w) of each part, in the order of the network's convolutions."""
    shapes: dict[str, tuple[int, ...]] = {"stem": (32, 3, 3, 3)}
    before = 32
    for i, width in enumerate(WIDTHS):
        hidden = 6 * before if i else before
        if i:
            shapes[f"blocks.{i}.expand"] = (hidden, before, 1, 1)
        shapes[f"blocks.{i}.depthwise"] = (hidden, 1, 3, 3)
        shapes[f"blocks.{i}.project"] = (width, hidden, 1, 1)
        before = width
    return shapes


SHAPES = _shapes()
PARTS = tuple(SHAPES)  # without the head and the classifier, which follow them


def read_mobilenet_v2(path: Path) -> dict[str, torch.Tensor]:
    """Read the kernels and biases of MobileNetV2 1.0, under the names of `NanoImageEncoder`.

    Args:
        path: a `.tflite` file with int8 or uint8 kernels and folded batch norms; what follows the blocks is not read.

    Returns:
        float32 kernels `(out, in / groups, h, w)` and biases `(out,)` of the stem and the 17 blocks, for pixels scaled
        to -1..1.

    Raises:
        CheckpointError: the file is missing, no TFLite model, or of another architecture, or ai-edge-litert is not
            installed.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise CheckpointError(f"reading {path.name} needs ai-edge-litert: pip install 'sam-edge[tflite]'") from error
    try:
        content = read_regular(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    if content[4:8] != MAGIC:
        raise CheckpointError(f"{path} is no TFLite model: name MobileNetV2 1.0 as a .tflite file")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
        convolutions = _convolutions(model, schema)
        state = {}
        for (name, shape), (kernel, bias) in zip(SHAPES.items(), convolutions[: len(PARTS)], strict=True):
            if kernel.shape != shape or bias.shape != shape[:1]:
                raise ValueError(f"{name} is {kernel.shape}, not {shape}")
            state[f"{name}.weight"], state[f"{name}.bias"] = torch.from_numpy(kernel), torch.from_numpy(bias)
    except Exception as error:  # a damaged flatbuffer or another network can raise anything
        raise CheckpointError(
            f"{path} is damaged or no MobileNetV2 1.0 with 8-bit kernels ({type(error).__name__}): copy it again"
        ) from error
    return state


def with_sam_normalization(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Adapt the weights to pixels normalized as for SAM's encoders, `(x - mean) / std`.

    The change of normalization is affine in each colour channel, so it is folded into the stem. It is exact except at
    the border, where the padding now is the mean colour instead of grey.
    """
    kernel = state["stem.weight"]
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    shift = (kernel * (mean / HALF_RANGE - 1.0)).sum(dim=(1, 2, 3))
    return {**state, "stem.weight": kernel * (std / HALF_RANGE), "stem.bias": state["stem.bias"] + shift}


def dequantized(numbers: npt.NDArray[Any], scales: Any, zero_points: Any, axis: int) -> Float32:
    """`scale * (q - zero_point)` as float32, with one scale for each slice along `axis` or one for all."""
    shape = [1] * numbers.ndim
    shape[axis] = -1
    scale = np.asarray(scales, np.float32).reshape(shape)
    zero = np.asarray(zero_points, np.float32).reshape(shape)
    return np.asarray(scale * (numbers.astype(np.float32) - zero), np.float32)


def _convolutions(model: Any, schema: Any) -> list[tuple[Float32, Float32]]:
    """Kernel `(out, in / groups, h, w)` and bias of each convolution, in the order of the graph."""
    graph, operators, types = model.subgraphs[0], schema.BuiltinOperator, schema.TensorType
    kinds = {types.INT8: np.int8, types.UINT8: np.uint8, types.INT32: np.int32}
    convolutions = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if kind not in (operators.CONV_2D, operators.DEPTHWISE_CONV_2D):
            continue
        pair = [graph.tensors[index] for index in operator.inputs[1:3]]
        if pair[0].type not in (types.INT8, types.UINT8) or pair[1].type != types.INT32:
            raise ValueError("kernels are not int8 or uint8 with int32 biases")
        kernel, bias = (_constant(model, tensor, kinds[tensor.type]) for tensor in pair)
        # TFLite's layouts: (out, h, w, in), and (1, h, w, channels) of a depthwise convolution.
        order = (0, 3, 1, 2) if kind == operators.CONV_2D else (3, 0, 1, 2)
        convolutions.append((np.ascontiguousarray(kernel.transpose(order)), bias))
    return convolutions


def _constant(model: Any, tensor: Any, kind: npt.DTypeLike) -> Float32:
    """A quantized constant of the graph as float32."""
    numbers = np.frombuffer(bytes(model.buffers[tensor.buffer].data), kind).reshape(tensor.shape)
    quantization = tensor.quantization
    return dequantized(numbers, quantization.scale, quantization.zeroPoint, quantization.quantizedDimension)
