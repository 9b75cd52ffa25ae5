"""MIL's two-dimensional convolutions as matrix products, which numpy computes fastest, by BLAS.

The parameters are MIL's, hence so many.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array

_LARGEST_UNFOLDED = 1 << 25  # values of the unfolded input of a convolution, 128 MB


def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: Any = 1,
) -> Array:
    """Convolution of `x (N, C, H, W)` with `weight (O, C/groups, kH, kW)`."""
    if x.ndim != 4:
        raise ValueError(f"conv with {x.ndim - 2} spatial axes")
    stride = [1, 1] if strides is None else [int(size) for size in strides]
    if dilations is not None and any(int(size) != 1 for size in dilations):
        raise ValueError("dilations of conv")
    x = np.pad(x, [(0, 0), (0, 0), *padding(x.shape[2:], weight.shape[2:], stride, pad_type, pad)])
    group_count, (outputs, channels, *kernel) = int(groups), weight.shape
    size = [(x.shape[2 + axis] - kernel[axis]) // stride[axis] + 1 for axis in range(2)]
    out = np.empty((x.shape[0], outputs, *size), np.float32)
    if channels == 1 and outputs == group_count:
        _depthwise(x, weight, stride, size, out)
    else:
        share = outputs // group_count
        for group in range(group_count):
            to = slice(group * share, (group + 1) * share)
            _dense(x[:, group * channels : (group + 1) * channels], weight[to], stride, size, out[:, to])
    if bias is not None:
        out += bias.reshape(-1, 1, 1)
    return out


def padding(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad_type: str, pad: Array | None
) -> list[tuple[int, int]]:
    """Pixels that are added before and after, along both axes."""
    if pad_type == "valid":
        return [(0, 0), (0, 0)]
    if pad_type == "custom" and pad is not None:
        return [(int(low), int(high)) for low, high in np.asarray(pad).reshape(2, 2)]
    if pad_type in {"same", "same_lower"}:
        total = [
            max((-(-side // pace) - 1) * pace + width - side, 0)
            for side, width, pace in zip(size, kernel, stride, strict=True)
        ]
        halves = [(both // 2, both - both // 2) for both in total]
        return halves if pad_type == "same" else [(high, low) for low, high in halves]
    raise ValueError(f"pad_type {pad_type}")


def taps(x: Array, kernel: Sequence[int], stride: Sequence[int], size: Sequence[int]) -> Any:
    """For each position i, j of the kernel, the part of `x` that lies under it."""
    for i, j in product(range(kernel[0]), range(kernel[1])):
        rows = slice(i, i + (size[0] - 1) * stride[0] + 1, stride[0])
        columns = slice(j, j + (size[1] - 1) * stride[1] + 1, stride[1])
        yield i, j, x[:, :, rows, columns]


def _depthwise(x: Array, weight: Array, stride: Sequence[int], size: Sequence[int], out: Array) -> None:
    out[:] = 0
    for i, j, part in taps(x, weight.shape[2:], stride, size):
        out += part * weight[:, 0, i, j].reshape(-1, 1, 1)


def _dense(x: Array, weight: Array, stride: Sequence[int], size: Sequence[int], out: Array) -> None:
    outputs, channels, *kernel = weight.shape
    cells = size[0] * size[1]
    for row in range(len(x)):
        one = x[row : row + 1]
        if channels * kernel[0] * kernel[1] * cells <= _LARGEST_UNFOLDED:
            parts = [part.reshape(channels, cells) for _, _, part in taps(one, kernel, stride, size)]
            unfolded = np.concatenate(parts)  # (kH kW C, cells)
            out[row] = (weight.transpose(0, 2, 3, 1).reshape(outputs, -1) @ unfolded).reshape(outputs, *size)
        else:
            total = np.zeros((outputs, cells), np.float32)
            for i, j, part in taps(one, kernel, stride, size):
                total += weight[:, :, i, j] @ part.reshape(channels, cells)
            out[row] = total.reshape(outputs, *size)


def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: Any = 1,
    output_shape: Array | None = None,
) -> Array:
    """Transposed convolution of `x (N, C, H, W)` with `weight (C, O, kH, kW)`."""
    if x.ndim != 4 or int(groups) != 1 or (dilations is not None and any(int(size) != 1 for size in dilations)):
        raise ValueError("conv_transpose with groups, dilations, or other than two spatial axes")
    stride = [1, 1] if strides is None else [int(size) for size in strides]
    count, channels, *size = x.shape
    outputs, kernel = weight.shape[1], weight.shape[2:]
    whole = [(size[axis] - 1) * stride[axis] + kernel[axis] for axis in range(2)]
    out = np.zeros((count, outputs, *whole), np.float32)
    flat = x.reshape(count, channels, -1)
    for i, j, part in taps(out, kernel, stride, size):
        part[:] += (weight[:, :, i, j].T @ flat).reshape(count, outputs, *size)
    if pad_type == "custom" and pad is not None:
        (top, bottom), (left, right) = np.asarray(pad, int).reshape(2, 2)
        out = out[:, :, top : whole[0] - bottom, left : whole[1] - right]
    elif pad_type != "valid":
        raise ValueError(f"pad_type {pad_type} of conv_transpose")
    if output_shape is not None and tuple(int(each) for each in output_shape) != out.shape:
        raise ValueError(f"output_shape {tuple(output_shape)} of conv_transpose, where its parameters give {out.shape}")
    return out if bias is None else out + bias.reshape(-1, 1, 1)
