"""Operations that move values or make new arrays: reshapes, slices, concatenations, gathers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array


def reshape(x: Array, shape: Array) -> Array:
    """Another shape; 0 keeps an axis, -1 is inferred."""
    wanted = [int(x.shape[axis]) if size == 0 else int(size) for axis, size in enumerate(shape)]
    return x.reshape(wanted)


def transpose(x: Array, perm: Array) -> Array:
    """Axes in another order."""
    return np.transpose(x, [int(axis) for axis in perm])


def expand_dims(x: Array, axes: Array) -> Array:
    """New axes of size 1."""
    return np.expand_dims(x, tuple(int(axis) for axis in axes))


def squeeze(x: Array, axes: Array | None = None) -> Array:
    """Axes of size 1 removed."""
    return np.squeeze(x, None if axes is None else tuple(int(axis) for axis in axes))


def concat(values: list[Array], axis: Any, interleave: Any = False) -> Array:
    """Concatenated along an axis."""
    if bool(interleave):
        raise ValueError("interleaved concat")
    return np.concatenate([np.atleast_1d(each) for each in values], axis=int(axis))  # scalars too, as in shapes


def stack(values: list[Array], axis: Any) -> Array:
    """Stacked along a new axis."""
    return np.stack(values, axis=int(axis))


def split(x: Array, axis: Any, num_splits: Any = None, split_sizes: Array | None = None) -> tuple[Array, ...]:
    """Split along an axis, evenly or into given sizes."""
    if split_sizes is None:
        return tuple(np.split(x, int(num_splits), axis=int(axis)))
    ends = np.cumsum([int(size) for size in split_sizes])[:-1]
    return tuple(np.split(x, ends, axis=int(axis)))


def tile(x: Array, reps: Array) -> Array:
    """Repeated along each axis."""
    return np.tile(x, [int(count) for count in reps])


def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """A slice of each axis; masked ends are open, squeezed axes are indexed with `begin`."""
    chosen: list[slice | int] = []
    for axis in range(x.ndim):
        first, last = int(begin[axis]), int(end[axis])
        if squeeze_mask is not None and squeeze_mask[axis]:
            chosen.append(first)
            continue
        step = 1 if stride is None else int(stride[axis])
        open_start = begin_mask is not None and bool(begin_mask[axis])
        open_end = end_mask is not None and bool(end_mask[axis])
        chosen.append(slice(None if open_start else first, None if open_end else last, step))
    return np.asarray(x[tuple(chosen)])


def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Any = 0.0) -> Array:
    """Padding at both ends of the last axes."""
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    pairs = [(int(low), int(high)) for low, high in np.asarray(pad).reshape(-1, 2)]
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        return np.pad(x, widths, constant_values=np.float32(constant_val))
    return np.asarray(np.pad(x, widths, mode=names[mode]))  # type: ignore[call-overload]


def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    """A slice of each axis from `begin` on; size -1 takes the rest."""
    ends = [x.shape[axis] if int(count) == -1 else int(begin[axis]) + int(count) for axis, count in enumerate(size)]
    return x[tuple(slice(int(first), last) for first, last in zip(begin, ends, strict=True))]


def reverse(x: Array, axes: Array | None = None) -> Array:
    """Axes reversed; all of them without `axes`."""
    return np.flip(x, None if axes is None else tuple(int(axis) for axis in axes))


def shape(x: Array) -> Array:
    """Sizes of the axes, int32."""
    return np.array(x.shape, np.int32)


def gather(x: Array, indices: Array, axis: Any = 0, batch_dims: Any = 0, validate_indices: Any = False) -> Array:
    """Slices of an axis; the first `batch_dims` axes of both arrays are batch axes."""
    if bool(validate_indices) and np.any(np.asarray(indices) < 0):
        raise IndexError(f"index {int(np.min(indices))} of gather")
    along, batch = int(axis) % x.ndim, int(batch_dims)
    if batch == 0:
        return np.take(x, indices, along)
    batch_shape = x.shape[:batch]
    pairs = zip(x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:]), strict=True)
    taken = np.stack([np.take(part, chosen, along - batch) for part, chosen in pairs])
    return taken.reshape(*batch_shape, *taken.shape[1:])


def gather_along_axis(x: Array, indices: Array, axis: Any = 0, validate_indices: Any = False) -> Array:
    """One value for each index, taken along the axis."""
    if bool(validate_indices) and np.any(indices < 0):
        raise IndexError(f"index {int(np.min(indices))} of gather_along_axis")
    return np.take_along_axis(x, indices.astype(np.int64), int(axis))


def gather_nd(x: Array, indices: Array, batch_dims: Any = 0, validate_indices: Any = False) -> Array:
    """Slices of x at the rows of `indices (..., K)`, which index its first K axes."""
    if int(batch_dims):
        raise ValueError("gather_nd with batch_dims")
    if bool(validate_indices) and np.any(indices < 0):
        raise IndexError(f"index {int(np.min(indices))} of gather_nd")
    return np.asarray(x[tuple(np.moveaxis(indices, -1, 0))])


def fill(shape: Array, value: Any = 0.0) -> Array:
    """A new array filled with one value."""
    return np.full([int(size) for size in shape], value)


def fill_like(ref_tensor: Array, value: Any = 0.0) -> Array:
    """A new array filled with one value, of another's shape."""
    return np.full(np.shape(ref_tensor), value)


def range_1d(end: Any, start: Any, step: Any) -> Array:
    """Values from `start` to before `end`."""
    return np.arange(start, end, step)


def one_hot(indices: Array, one_hot_vector_size: Any, axis: Any = -1, on_value: Any = 1, off_value: Any = 0) -> Array:
    """Each index as a vector along a new axis, with `on_value` at the index."""
    chosen = np.arange(int(one_hot_vector_size)) == np.asarray(indices)[..., None]
    return np.moveaxis(np.where(chosen, on_value, off_value), -1, int(axis))


def _blocks_to_space(x: Array, side: Any, order: tuple[int, ...]) -> Array:
    """`x (N, C side^2, H, W)` to (N, C, H side, W side).

    Args:
        x: the array.
        side: of a block.
        order: how the channel axis is split: 0 is C, 1 the rows and 2 the columns of a block.
    """
    batch, channels, height, width = x.shape
    block = int(side)
    sizes = {0: channels // block**2, 1: block, 2: block}
    split = x.reshape(batch, *(sizes[each] for each in order), height, width)
    places = [1 + order.index(each) for each in range(3)]
    moved = split.transpose(0, places[0], 4, places[1], 5, places[2])
    return moved.reshape(batch, sizes[0], height * block, width * block)


def _space_to_blocks(x: Array, side: Any, order: tuple[int, ...]) -> Array:
    """The inverse of `_blocks_to_space`."""
    batch, channels, height, width = x.shape
    block = int(side)
    blocks = x.reshape(batch, channels, height // block, block, width // block, block)
    places = {0: 1, 1: 3, 2: 5}
    moved = blocks.transpose(0, *(places[each] for each in order), 2, 4)
    return moved.reshape(batch, channels * block**2, height // block, width // block)


_CHANNELS_FIRST, _CHANNELS_LAST = (0, 1, 2), (1, 2, 0)


def pixel_shuffle(x: Array, upscale_factor: Any) -> Array:
    """Channels to blocks of pixels as in torch: the channel axis is (C, rows, columns)."""
    return _blocks_to_space(x, upscale_factor, _CHANNELS_FIRST)


def pixel_unshuffle(x: Array, downscale_factor: Any) -> Array:
    """The inverse of `pixel_shuffle`."""
    return _space_to_blocks(x, downscale_factor, _CHANNELS_FIRST)


def depth_to_space(x: Array, block_size: Any) -> Array:
    """Channels to blocks of pixels as in TensorFlow: the channel axis is (rows, columns, C)."""
    return _blocks_to_space(x, block_size, _CHANNELS_LAST)


def space_to_depth(x: Array, block_size: Any) -> Array:
    """The inverse of `depth_to_space`."""
    return _space_to_blocks(x, block_size, _CHANNELS_LAST)


SHAPES: dict[str, Callable[..., Any]] = {
    "concat": concat,
    "depth_to_space": depth_to_space,
    "expand_dims": expand_dims,
    "fill": fill,
    "fill_like": fill_like,
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "gather_nd": gather_nd,
    "one_hot": one_hot,
    "pad": pad,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "range_1d": range_1d,
    "reshape": reshape,
    "reverse": reverse,
    "shape": shape,
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "space_to_depth": space_to_depth,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
}
