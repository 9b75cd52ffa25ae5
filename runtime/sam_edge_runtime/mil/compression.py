"""Operations of compression: quantized, palettized and sparse weights to dense ones, and quantized activations.

Weights use the `constexpr_...` operations. Those of iOS 16 pack sub-byte values into a flat tensor of bytes, with the
shape as a parameter. Those of iOS 18 have sub-byte types, lookup tables and scales per block, and sparse forms of both.
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
    """Scale * (input - zero_point); scales and zero points that are vectors belong to the channels of `axis`."""
    out = input.astype(np.float32)
    if zero_point is not None:
        out -= _along(zero_point, input.ndim, axis).astype(np.float32)
    out *= _along(scale, input.ndim, axis)
    return out


def _along(values: Array, rank: int, axis: Any) -> Array:
    """A vector reshaped to broadcast along an axis; a scalar as it is."""
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
    """Scale * (data - offset), with one scale per block of data."""
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
    """The values unchanged: the program rounds them to the declared type."""
    return source_val


def constexpr_lut_to_dense(
    indices: Array, lut: Array, shape: Sequence[int] | Array | None = None, vector_axis: Any = None
) -> Array:
    """Values, or vectors along `vector_axis`, from a lookup table.

    Args:
        indices: in iOS 16 packed indices as bytes; in iOS 18 one index for each value or vector.
        lut: in iOS 16 one table (N,); in iOS 18 one table per block of indices: (blocks of each axis..., N, values of a
            vector).
        shape: of the result, in iOS 16.
        vector_axis: axis of the result along which vectors lie.
    """
    if shape is not None:
        bits = len(lut).bit_length() - 1
        sizes = [int(size) for size in shape]
        return np.asarray(lut[unpacked(indices.view(np.uint8), bits, int(np.prod(sizes)))].reshape(sizes))
    entries, width = lut.shape[-2:]
    block = np.zeros(indices.shape, np.intp)
    for axis, (size, blocks) in enumerate(zip(indices.shape, lut.shape[:-2], strict=True)):
        block_of_index = np.arange(size) // (size // blocks)
        block = block * blocks + block_of_index.reshape(-1, *[1] * (indices.ndim - 1 - axis))
    vectors = lut.reshape(-1, width)[block * entries + indices]  # (*indices.shape, width)
    if width == 1:
        return np.asarray(vectors[..., 0])
    axis = int(vector_axis) % indices.ndim
    sizes = list(indices.shape)
    sizes[axis] *= width
    return np.asarray(np.moveaxis(vectors, -1, axis + 1).reshape(sizes))


def constexpr_sparse_to_dense(nonzero_data: Array, mask: Array, shape: Sequence[int] | Array | None = None) -> Array:
    """Values where a mask is 1, zeros elsewhere; in iOS 16, with `shape`, the mask is packed."""
    if shape is not None:
        sizes = [int(size) for size in shape]
        mask = unpacked(mask.view(np.uint8), 1, int(np.prod(sizes))).reshape(sizes)
    out = np.zeros(mask.shape, nonzero_data.dtype)
    out[mask != 0] = nonzero_data
    return out


def constexpr_lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Any = None
) -> tuple[Array, Array]:
    """Mask and values of a sparse tensor whose values come from a lookup table."""
    indices = constexpr_sparse_to_dense(indices_nonzero_data, indices_mask)
    dense = constexpr_lut_to_dense(indices, lut, vector_axis=vector_axis)
    mask = indices_mask if lut.shape[-1] == 1 else np.repeat(indices_mask, lut.shape[-1], int(vector_axis))
    return mask, dense[mask != 0]


def constexpr_sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """Mask and values of a sparse tensor whose values are quantized."""
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
