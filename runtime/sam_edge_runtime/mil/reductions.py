"""Operations along axes: reductions, softmax, normalizations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array

from .chunks import in_chunks


def _reduction(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, axes: Array | None = None, keep_dims: Any = False) -> Array:
        along = None if axes is None else tuple(int(axis) for axis in axes)
        return np.asarray(function(x, axis=along, keepdims=bool(keep_dims)))

    return reduce


def _l2_norm(x: Array, axis: Any, keepdims: bool) -> Array:
    return np.asarray(np.sqrt(np.square(x).sum(axis=axis, keepdims=keepdims)))


def _log_sum_exp(x: Array, axis: Any, keepdims: bool) -> Array:
    top = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return np.asarray(total if keepdims else np.squeeze(total, axis))


def _arg_reduction(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, axis: Any = -1, keep_dims: Any = False, output_dtype: str = "int32") -> Array:
        return np.asarray(function(x, axis=int(axis), keepdims=bool(keep_dims))).astype(output_dtype)

    return reduce


def softmax(x: Array, axis: Any = -1, out: Array | None = None) -> Array:
    """exp(x) divided by its sum along an axis.

    Args:
        x: floats.
        axis: of x.
        out: array for the result if the axis is the last one; `x` itself saves a copy. MIL has no such parameter.
    """
    if int(axis) in {-1, x.ndim - 1}:
        return in_chunks(_softmax_of_last_axis, x, kept=1, out=out)
    return np.ascontiguousarray(np.moveaxis(softmax(np.moveaxis(x, int(axis), -1)), -1, int(axis)))


def _softmax_of_last_axis(x: Array) -> Array:
    powers = x - x.max(axis=-1, keepdims=True)  # without overflow
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=-1, keepdims=True)
    return np.asarray(powers)


def layer_norm(
    x: Array, axes: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Array:
    """Mean 0 and variance 1 over `axes`, then scale and shift by arrays over these axes."""
    along = tuple(sorted(int(axis) % x.ndim for axis in axes))
    sizes = [x.shape[axis] if axis in along else 1 for axis in range(along[0], x.ndim)]
    scale, shift = (None if each is None else each.reshape(sizes) for each in (gamma, beta))

    def normalize(part: Array) -> Array:
        within = tuple(axis - x.ndim for axis in along)
        normalized = _standardized(part, within, epsilon)
        if scale is not None:
            normalized *= scale
        if shift is not None:
            normalized += shift
        return normalized

    trailing = along == tuple(range(x.ndim - len(along), x.ndim))
    return in_chunks(normalize, x, kept=len(along)) if trailing else normalize(x)


def instance_norm(x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5) -> Array:
    """Mean 0 and variance 1 of each channel of `x (N, C, ...)`, then scale and shift by channel."""
    normalized = _standardized(x, tuple(range(2, x.ndim)), epsilon)
    channels = (-1, *[1] * (x.ndim - 2))
    if gamma is not None:
        normalized *= np.reshape(gamma, channels)
    if beta is not None:
        normalized += np.reshape(beta, channels)
    return normalized


def batch_norm(
    x: Array, mean: Array, variance: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Array:
    """Each channel of `x (N, C, ...)` minus a given mean, over the root of a given variance, then scale and shift."""
    scale = 1.0 / np.sqrt(variance + np.float32(epsilon))
    if gamma is not None:
        scale = scale * gamma
    shift = -mean * scale if beta is None else beta - mean * scale
    channels = (-1, *[1] * (x.ndim - 2))
    return np.asarray(x * scale.reshape(channels) + shift.reshape(channels))


def l2_norm(x: Array, epsilon: Any = 1e-6) -> Array:
    """X divided by the root of the sum of squares over the last three axes."""
    return np.asarray(x / np.sqrt(np.square(x).sum(axis=(-3, -2, -1), keepdims=True) + np.float32(epsilon)))


def _standardized(x: Array, axes: tuple[int, ...], epsilon: Any) -> Array:
    deviation = x - x.mean(axis=axes, keepdims=True)
    deviation /= np.sqrt(np.square(deviation).mean(axis=axes, keepdims=True) + np.float32(epsilon))
    return np.asarray(deviation)


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "l2_norm": l2_norm,
    "layer_norm": layer_norm,
    "reduce_argmax": _arg_reduction(np.argmax),
    "reduce_argmin": _arg_reduction(np.argmin),
    "reduce_l1_norm": _reduction(lambda x, axis, keepdims: np.abs(x).sum(axis=axis, keepdims=keepdims)),
    "reduce_l2_norm": _reduction(_l2_norm),
    "reduce_log_sum_exp": _reduction(_log_sum_exp),
    "reduce_max": _reduction(np.max),
    "reduce_mean": _reduction(np.mean),
    "reduce_min": _reduction(np.min),
    "reduce_prod": _reduction(np.prod),
    "reduce_sum": _reduction(np.sum),
    "reduce_sum_square": _reduction(lambda x, axis, keepdims: np.square(x).sum(axis=axis, keepdims=keepdims)),
    "softmax": softmax,
}
