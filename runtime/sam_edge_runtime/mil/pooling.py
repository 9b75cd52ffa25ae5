"""MIL's two-dimensional pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array

from .convolution import padding, taps


def max_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    ceil_mode: Any = False,
) -> Array:
    """The largest value of each window of `x (N, C, H, W)`."""
    if x.ndim != 4 or bool(ceil_mode):
        raise ValueError("max_pool with ceil_mode, or other than two spatial axes")
    kernel = [int(size) for size in kernel_sizes]
    stride = [1, 1] if strides is None else [int(size) for size in strides]
    sides = padding(x.shape[2:], kernel, stride, pad_type, pad)
    x = np.pad(x, [(0, 0), (0, 0), *sides], constant_values=-np.inf)
    size = [(x.shape[2 + axis] - kernel[axis]) // stride[axis] + 1 for axis in range(2)]
    out: Array | None = None
    for _, _, part in taps(x, kernel, stride, size):
        out = part.copy() if out is None else np.maximum(out, part, out=out)
    if out is None:
        raise ValueError("max_pool with an empty kernel")
    return out


POOLING: dict[str, Callable[..., Any]] = {"max_pool": max_pool}
