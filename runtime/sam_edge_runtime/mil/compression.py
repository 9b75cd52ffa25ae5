"""Quantized, palettized and sparse weights to the numbers that they stand for, and quantized activations.

The `constexpr_...` operations of iOS 16, whose packed bits are bytes of a flat tensor with the shape beside it, and of
iOS 18, which has types of less than a byte, tables and scales by block, and sparse forms of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array

from .constants import unpacked


def quantize(
    input: Array,  # noqa: A002 - MIL's name
    scale: Array,
    output_dtype: str,
    zero_point: Array | None = None,
    axis: Any = None,
) -> Array:
    """clip(round(input / scale) + zero_point), halves to even."""
    limits = np.iinfo(output_dtype)
    out = np.rint(input / _along(scale, input.ndim, axis))
    if zero_point is not None:
        out += _along(zero_point, input.ndim, axis).astype(np.float32)
    return np.clip(out, limits.min, limits.max, out=np.asarray(out)).astype(output_dtype)


def dequantize(
    input: Array,  # noqa: A002 - MIL's name
    scale: Array,
    zero_point: Array | None = None,
    axis: Any = None,
) -> Array:
    """Scale * (input - zero_point), by channel of `axis` where they are vectors."""
    out = input.astype(np.float32)
    if zero_point is not None:
        out -= _along(zero_point, input.ndim, axis).astype(np.float32)
    out *= _along(scale, input.ndim, axis)
    return out


def _along(values: Array, rank: int, axis: Any) -> Array:
    """A vector laid along an axis, a number as it is."""
    values = np.asarray(values)
    if values.ndim == 0:
        return values
    sizes = [1] * rank
    sizes[int(axis)] = -1
    return values.reshape(sizes)


def constexpr_affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: Any) -> Array:
    """As `dequantize`."""
    return dequantize(quantized_data, scale, zero_point, axis)


def constexpr_blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """Scale * (data - offset), where each scale serves a block of data."""
    sizes: list[int] = []
    for size, blocks in zip(data.shape, scale.shape, strict=True):
        sizes += [blocks, size // blocks]
    spread = [size for blocks in scale.shape for size in (blocks, 1)]
    out = data.reshape(sizes).astype(np.float32)
    if offset is not None:
        out -= offset.reshape(spread).astype(np.float32)
    out *= scale.reshape(spread)
    return out.reshape(data.shape)


def constexpr_cast(source_val: Array, output_dtype: str) -> Array:
    """Numbers as they are: the program rounds them to the type."""
    return source_val


def constexpr_lut_to_dense(
    indices: Array, lut: Array, shape: Sequence[int] | Array | None = None, vector_axis: Any = None
) -> Array:
    """Numbers, or vectors along `vector_axis`, looked up in a table.

    Args:
        indices: with `shape` (iOS 16) bytes of packed indices into the one table `lut (N,)`; without (iOS 18) as many
            indices as there are numbers or vectors.
        lut: iOS 18: tables by block of indices, (blocks of each axis..., N, numbers in a vector).
        shape: of the result.
        vector_axis: the axis that a table's vectors lie along.
    """
    if shape is not None:
        bits = len(lut).bit_length() - 1
        sizes = [int(size) for size in shape]
        return np.asarray(lut[unpacked(indices.view(np.uint8), bits, int(np.prod(sizes)))].reshape(sizes))
    number, width = lut.shape[-2:]
    block = np.zeros(indices.shape, np.intp)
    for axis, (size, blocks) in enumerate(zip(indices.shape, lut.shape[:-2], strict=True)):
        along = np.arange(size) // (size // blocks)
        block = block * blocks + along.reshape(-1, *[1] * (indices.ndim - 1 - axis))
    found = lut.reshape(-1, width)[block * number + indices]  # (*indices.shape, width)
    if width == 1:
        return np.asarray(found[..., 0])
    axis = int(vector_axis) % indices.ndim
    sizes = list(indices.shape)
    sizes[axis] *= width
    return np.asarray(np.moveaxis(found, -1, axis + 1).reshape(sizes))


def constexpr_sparse_to_dense(nonzero_data: Array, mask: Array, shape: Sequence[int] | Array | None = None) -> Array:
    """Numbers at the places that a mask has ones at, zeros elsewhere; with `shape` (iOS 16) the mask is packed."""
    if shape is not None:
        sizes = [int(size) for size in shape]
        mask = unpacked(mask.view(np.uint8), 1, int(np.prod(sizes))).reshape(sizes)
    out = np.zeros(mask.shape, nonzero_data.dtype)
    out[mask != 0] = nonzero_data
    return out


def constexpr_lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Any = None
) -> tuple[Array, Array]:
    """Mask and numbers of a sparse tensor whose numbers lie in a table."""
    indices = constexpr_sparse_to_dense(indices_nonzero_data, indices_mask)
    dense = constexpr_lut_to_dense(indices, lut, vector_axis=vector_axis)
    mask = indices_mask if lut.shape[-1] == 1 else np.repeat(indices_mask, lut.shape[-1], int(vector_axis))
    return mask, dense[mask != 0]


def constexpr_sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """Mask and numbers of a sparse tensor whose numbers are quantized."""
    dense = constexpr_blockwise_shift_scale(constexpr_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


COMPRESSION: dict[str, Callable[..., Any]] = {
    "constexpr_affine_dequantize": constexpr_affine_dequantize,
    "constexpr_blockwise_shift_scale": constexpr_blockwise_shift_scale,
    "constexpr_cast": constexpr_cast,
    "constexpr_lut_to_dense": constexpr_lut_to_dense,
    "constexpr_lut_to_sparse": constexpr_lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": constexpr_sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": constexpr_sparse_to_dense,
    "dequantize": dequantize,
    "quantize": quantize,
}
