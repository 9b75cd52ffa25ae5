"""Weights of PyTorch's layers as the arrays that `sam_edge_quant.methods` takes, and the inputs that they multiply."""

from __future__ import annotations

from typing import TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model.nano import SameConv
from sam_edge_quant.methods.weight_scales import has_qat_scales
from sam_edge_runtime.arrays import Float64

Layer: TypeAlias = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def array(tensor: Tensor) -> Float64:
    """The values of a tensor, in double precision."""
    return tensor.detach().cpu().double().numpy()


def assign(parameter: Tensor, values: Float64) -> None:
    """Write `values` into a parameter or buffer."""
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values))


def weight_of(layer: Layer) -> Float64:
    """Weight `(outputs, channels, taps)`; a depthwise one is zero except where output and channel are the same."""
    weight = array(layer.weight)
    weight = weight.reshape(*weight.shape[:2], -1)
    if isinstance(layer, nn.ConvTranspose2d):
        return weight.transpose(1, 0, 2)
    if is_depthwise(layer):
        return np.eye(len(weight))[:, :, None] * weight
    return weight


def set_weight(layer: Layer, weight: Float64) -> None:
    """Write a weight in the form of `weight_of`."""
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.transpose(1, 0, 2)
    elif is_depthwise(layer):
        weight = weight.diagonal().T[:, None]
    assign(layer.weight, np.ascontiguousarray(weight.reshape(layer.weight.shape)))


def is_depthwise(layer: Layer) -> bool:
    """Whether each output reads only the channel of the same number."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1


def is_qat_trained(layer: Layer) -> bool:
    """Whether quantization-aware training has rounded all of a layer's weight."""
    weight = array(layer.weight)
    return bool(has_qat_scales(weight.swapaxes(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight).all())


def channels_last(layer: nn.Module, tensor: Tensor) -> Tensor:
    """A layer's input or output as `(positions, channels)`."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        tensor = tensor.movedim(1, -1)
    return tensor.reshape(-1, tensor.shape[-1])


def input_patches(layer: Layer, tensor: Tensor) -> Tensor:
    """The values that each output of a layer is a weighted sum of, as `(groups, patches, inputs)`.

    Zero padding is included. For a transposed convolution, whose kernel equals its stride in all of SAM, a patch is the
    channels of one position.
    """
    if not isinstance(layer, nn.Conv2d) or (layer.kernel_size, layer.stride, layer.groups) == ((1, 1), (1, 1), 1):
        return channels_last(layer, tensor)[None]
    if isinstance(layer, SameConv):
        tensor = layer.padded(tensor)
    padding = cast("tuple[int, ...]", layer.padding)  # never a string in these models
    # (B, channels * taps, positions)
    columns = F.unfold(tensor, layer.kernel_size, padding=padding, stride=layer.stride)
    columns = columns.reshape(len(columns), layer.groups, -1, columns.shape[-1])
    return columns.permute(1, 0, 3, 2).reshape(layer.groups, -1, columns.shape[2])


def rows_of(layer: Layer) -> Float64:
    """Weight `(groups, rows, inputs)` in the order of `input_patches`; every output has one row, or one per tap.

    The rows of one output are adjacent.
    """
    weight = array(layer.weight)
    if isinstance(layer, nn.ConvTranspose2d):
        return np.moveaxis(weight, 0, -1).reshape(1, -1, layer.in_channels)
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return weight.reshape(groups, len(weight) // groups, -1)


def set_rows(layer: Layer, rows: Float64) -> None:
    """Write a weight in the form of `rows_of`."""
    shape = layer.weight.shape
    if isinstance(layer, nn.ConvTranspose2d):
        rows = np.moveaxis(rows.reshape(*shape[1:], shape[0]), -1, 0)
    assign(layer.weight, np.ascontiguousarray(rows.reshape(shape)))
