"""Each kind of MIL operation in numpy, with MIL's parameter names.

Semantics are those of coremltools' operation definitions for iOS 15 to 17. Floats come in and go out as float32;
integers and texts as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .convolution import conv, conv_transpose

Array = npt.NDArray[Any]

OPERATIONS: dict[str, Callable[..., Any]] = {"conv": conv, "conv_transpose": conv_transpose}


def _named(*kinds: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def note(function: Callable[..., Any]) -> Callable[..., Any]:
        for kind in kinds:
            OPERATIONS[kind] = function
        return function

    return note


# Elementwise ----------------------------------------------------------------------------------------------------------

_ONE: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "cos": np.cos,
    "exp": np.exp,
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
}
_TWO: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mul": np.multiply,
    "pow": np.power,
    "real_div": np.divide,
    "sub": np.subtract,
}


def _with_names(function: Callable[..., Array], *names: str) -> Callable[..., Array]:
    """A function that takes MIL's parameter names; numpy's take places only."""
    return lambda **given: function(*(given[name] for name in names))


OPERATIONS |= {kind: _with_names(function, "x") for kind, function in _ONE.items()}
OPERATIONS |= {kind: _with_names(function, "x", "y") for kind, function in _TWO.items()}


@_named("sigmoid")
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


@_named("silu")
def silu(x: Array) -> Array:
    """X times its sigmoid."""
    return np.asarray(x * sigmoid(x))


@_named("rsqrt")
def rsqrt(x: Array, epsilon: Any = 1e-12) -> Array:
    """1 / sqrt(x + epsilon)."""
    return 1.0 / np.sqrt(x + np.float32(epsilon))


@_named("clip")
def clip(x: Array, alpha: Any, beta: Any) -> Array:
    """Values below alpha and above beta are set to these."""
    return np.clip(x, np.float32(alpha), np.float32(beta))


@_named("gelu")
def gelu(x: Array, mode: str = "EXACT") -> Array:
    """Gaussian error linear unit in one of MIL's three modes."""
    if mode == "EXACT":
        return np.asarray(0.5 * x * (1.0 + erf(x * np.float32(0.5**0.5))))
    if mode == "TANH_APPROXIMATION":
        inner = np.float32((2.0 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x**3)
        return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))
    if mode == "SIGMOID_APPROXIMATION":
        return np.asarray(x * sigmoid(np.float32(1.702) * x))
    raise ValueError(f"mode {mode} of gelu")


@_named("erf")
def erf(x: Array) -> Array:
    """The error function to float32's last digit, which numpy does not have.

    Below 2 the series exp(-x^2) sum 2^n x^(2n+1) / (2n+1)!!, whose terms all have one sign; above it the continued
    fraction of erfc (Abramowitz and Stegun, 7.1.6 and 7.1.14).
    """
    size = np.minimum(np.abs(x).astype(np.float64), 6.0)
    square = size * size
    bell = np.exp(-square) * (2.0 / np.sqrt(np.pi))
    near = np.minimum(size, 2.0)
    term = near.copy()
    total = near.copy()
    for n in range(1, 30):
        term *= 2.0 * near * near / (2 * n + 1)
        total += term
    far = np.maximum(size, 2.0)
    fraction = np.zeros_like(far)
    for n in range(30, 0, -1):
        fraction = 0.5 * n / (far + fraction)
    tail = 1.0 - 0.5 * bell / (far + fraction)
    result = np.where(size < 2.0, bell * total, tail)
    return np.asarray(np.copysign(result, x), np.float32)


@_named("cast")
def cast(x: Array, dtype: str) -> Array:
    """Numbers as another type; the program rounds floats."""
    names = {"fp16": "float32", "fp32": "float32", "bool": "bool"}
    return x.astype(names.get(dtype, dtype))


# Shapes ---------------------------------------------------------------------------------------------------------------


@_named("reshape")
def reshape(x: Array, shape: Array) -> Array:
    """Another shape; 0 keeps an axis, -1 is what is left."""
    wanted = [int(x.shape[axis]) if size == 0 else int(size) for axis, size in enumerate(shape)]
    return x.reshape(wanted)


@_named("transpose")
def transpose(x: Array, perm: Array) -> Array:
    """Axes in another order."""
    return np.transpose(x, [int(axis) for axis in perm])


@_named("expand_dims")
def expand_dims(x: Array, axes: Array) -> Array:
    """New axes of size 1."""
    return np.expand_dims(x, tuple(int(axis) for axis in axes))


@_named("squeeze")
def squeeze(x: Array, axes: Array | None = None) -> Array:
    """Axes of size 1 taken away."""
    return np.squeeze(x, None if axes is None else tuple(int(axis) for axis in axes))


@_named("concat")
def concat(values: list[Array], axis: Any, interleave: Any = False) -> Array:
    """Joined along an axis."""
    if bool(interleave):
        raise ValueError("interleaved concat")
    return np.concatenate(values, axis=int(axis))


@_named("stack")
def stack(values: list[Array], axis: Any) -> Array:
    """Joined along a new axis."""
    return np.stack(values, axis=int(axis))


@_named("split")
def split(x: Array, axis: Any, num_splits: Any = None, split_sizes: Array | None = None) -> tuple[Array, ...]:
    """Cut along an axis, evenly or into given sizes."""
    if split_sizes is None:
        return tuple(np.split(x, int(num_splits), axis=int(axis)))
    ends = np.cumsum([int(size) for size in split_sizes])[:-1]
    return tuple(np.split(x, ends, axis=int(axis)))


@_named("tile")
def tile(x: Array, reps: Array) -> Array:
    """Repeated along each axis."""
    return np.tile(x, [int(count) for count in reps])


@_named("slice_by_index")
def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """A part of each axis; masked ends are open, squeezed axes are taken at `begin`."""
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
    return x[tuple(chosen)]


@_named("pad")
def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Any = 0.0) -> Array:
    """More at both ends of the last axes."""
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    pairs = [(int(low), int(high)) for low, high in np.asarray(pad).reshape(-1, 2)]
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        return np.pad(x, widths, constant_values=np.float32(constant_val))
    return np.asarray(np.pad(x, widths, mode=names[mode]))  # type: ignore[call-overload]


@_named("upsample_nearest_neighbor")
def upsample_nearest_neighbor(x: Array, scale_factor_height: Any = 1, scale_factor_width: Any = 1) -> Array:
    """Each cell of `(..., H, W)` repeated a whole number of times."""
    factors = [float(scale_factor_height), float(scale_factor_width)]
    if any(factor != int(factor) for factor in factors):
        raise ValueError(f"factors {factors} of upsample_nearest_neighbor")
    return x.repeat(int(factors[0]), axis=-2).repeat(int(factors[1]), axis=-1)


# Reductions and normalization -----------------------------------------------------------------------------------------


def _reduced(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, axes: Array | None = None, keep_dims: Any = False) -> Array:
        along = None if axes is None else tuple(int(axis) for axis in axes)
        return np.asarray(function(x, axis=along, keepdims=bool(keep_dims)))

    return reduce


OPERATIONS |= {
    "reduce_max": _reduced(np.max),
    "reduce_mean": _reduced(np.mean),
    "reduce_min": _reduced(np.min),
    "reduce_sum": _reduced(np.sum),
}


@_named("softmax")
def softmax(x: Array, axis: Any = -1) -> Array:
    """Shares of exp(x) along an axis."""
    bells = x - x.max(axis=int(axis), keepdims=True)
    np.exp(bells, out=bells)
    bells /= bells.sum(axis=int(axis), keepdims=True)
    return np.asarray(bells)


@_named("layer_norm")
def layer_norm(
    x: Array, axes: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Array:
    """Mean 0 and variance 1 over `axes`, then scale and shift."""
    along = tuple(int(axis) for axis in axes)
    away = x - x.mean(axis=along, keepdims=True)
    away /= np.sqrt(np.square(away).mean(axis=along, keepdims=True) + np.float32(epsilon))
    if gamma is not None:
        away = away * gamma
    return np.asarray(away if beta is None else away + beta)


# Products -------------------------------------------------------------------------------------------------------------


@_named("linear")
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """`x (..., C)` by `weight (D, C)`."""
    out = np.asarray(x @ weight.T)
    return out if bias is None else out + bias


@_named("matmul")
def matmul(x: Array, y: Array, transpose_x: Any = False, transpose_y: Any = False) -> Array:
    """Batched matrix product."""
    left, right = x.swapaxes(-1, -2) if bool(transpose_x) else x, y.swapaxes(-1, -2) if bool(transpose_y) else y
    return np.asarray(left @ right)
