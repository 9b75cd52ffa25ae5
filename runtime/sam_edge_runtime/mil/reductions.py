"""Operations that look along axes: sums and their like, softmax, normalizations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array

from .blocks import in_blocks


def _reduced(function: Callable[..., Array]) -> Callable[..., Array]:
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


def _placed(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, axis: Any = -1, keep_dims: Any = False, output_dtype: str = "int32") -> Array:
        return np.asarray(function(x, axis=int(axis), keepdims=bool(keep_dims))).astype(output_dtype)

    return reduce


def softmax(x: Array, axis: Any = -1, out: Array | None = None) -> Array:
    """Shares of exp(x) along an axis.

    Args:
        x: floats.
        axis: any.
        out: where to write if the axis is the last one; `x` itself saves a copy. Not a parameter of MIL's.
    """
    if int(axis) in {-1, x.ndim - 1}:
        return in_blocks(_shares, x, kept=1, out=out)
    return np.ascontiguousarray(np.moveaxis(softmax(np.moveaxis(x, int(axis), -1)), -1, int(axis)))


def _shares(x: Array) -> Array:
    """Along the last axis."""
    bells = x - x.max(axis=-1, keepdims=True)
    np.exp(bells, out=bells)
    bells /= bells.sum(axis=-1, keepdims=True)
    return np.asarray(bells)


def layer_norm(
    x: Array, axes: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Array:
    """Mean 0 and variance 1 over `axes`, then scale and shift by arrays over these axes."""
    along = tuple(sorted(int(axis) % x.ndim for axis in axes))
    sizes = [x.shape[axis] if axis in along else 1 for axis in range(along[0], x.ndim)]
    factor, shift = (None if each is None else each.reshape(sizes) for each in (gamma, beta))

    def normal(part: Array) -> Array:
        within = tuple(axis - x.ndim for axis in along)
        away = _standardized(part, within, epsilon)
        if factor is not None:
            away *= factor
        if shift is not None:
            away += shift
        return away

    trailing = along == tuple(range(x.ndim - len(along), x.ndim))
    return in_blocks(normal, x, kept=len(along)) if trailing else normal(x)


def instance_norm(x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5) -> Array:
    """Mean 0 and variance 1 of each channel of `x (N, C, ...)`, then scale and shift by channel."""
    away = _standardized(x, tuple(range(2, x.ndim)), epsilon)
    channels = (-1, *[1] * (x.ndim - 2))
    if gamma is not None:
        away *= np.reshape(gamma, channels)
    if beta is not None:
        away += np.reshape(beta, channels)
    return away


def batch_norm(
    x: Array, mean: Array, variance: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Array:
    """Each channel of `x (N, C, ...)` less a known mean, over the root of a known variance, then scale and shift."""
    factor = 1.0 / np.sqrt(variance + np.float32(epsilon))
    if gamma is not None:
        factor = factor * gamma
    shift = -mean * factor if beta is None else beta - mean * factor
    channels = (-1, *[1] * (x.ndim - 2))
    return np.asarray(x * factor.reshape(channels) + shift.reshape(channels))


def l2_norm(x: Array, epsilon: Any = 1e-6) -> Array:
    """The last three axes over the root of their squares' sum."""
    return np.asarray(x / np.sqrt(np.square(x).sum(axis=(-3, -2, -1), keepdims=True) + np.float32(epsilon)))


def _standardized(x: Array, axes: tuple[int, ...], epsilon: Any) -> Array:
    away = x - x.mean(axis=axes, keepdims=True)
    away /= np.sqrt(np.square(away).mean(axis=axes, keepdims=True) + np.float32(epsilon))
    return np.asarray(away)


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "l2_norm": l2_norm,
    "layer_norm": layer_norm,
    "reduce_argmax": _placed(np.argmax),
    "reduce_argmin": _placed(np.argmin),
    "reduce_l1_norm": _reduced(lambda x, axis, keepdims: np.abs(x).sum(axis=axis, keepdims=keepdims)),
    "reduce_l2_norm": _reduced(_l2_norm),
    "reduce_log_sum_exp": _reduced(_log_sum_exp),
    "reduce_max": _reduced(np.max),
    "reduce_mean": _reduced(np.mean),
    "reduce_min": _reduced(np.min),
    "reduce_prod": _reduced(np.prod),
    "reduce_sum": _reduced(np.sum),
    "reduce_sum_square": _reduced(lambda x, axis, keepdims: np.square(x).sum(axis=axis, keepdims=keepdims)),
    "softmax": softmax,
}
