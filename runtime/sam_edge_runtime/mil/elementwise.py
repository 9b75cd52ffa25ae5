"""Elementwise operations: arithmetic, comparisons, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array

from .chunks import in_chunks

_Function = Callable[[Array], Array]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def silu(x: Array) -> Array:
    """X times its sigmoid."""
    return np.asarray(x * sigmoid(x))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    return np.asarray(np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0))


def inverse(x: Array, epsilon: Any = 1e-4) -> Array:
    """1 / (x + epsilon)."""
    return np.asarray(1.0 / (x + np.float32(epsilon)))


def log(x: Array, epsilon: Any = 1e-45) -> Array:
    """The natural logarithm of x + epsilon."""
    return np.asarray(np.log(x + np.float32(epsilon)))


def rsqrt(x: Array, epsilon: Any = 1e-12) -> Array:
    """1 / sqrt(x + epsilon)."""
    return np.asarray(1.0 / np.sqrt(x + np.float32(epsilon)))


def clip(x: Array, alpha: Any, beta: Any) -> Array:
    """Values limited to alpha to beta."""
    return np.clip(x, np.float32(alpha), np.float32(beta))


def leaky_relu(x: Array, alpha: Any) -> Array:
    """Negative values times alpha."""
    return np.asarray(np.where(x < 0, x * np.float32(alpha), x))


def elu(x: Array, alpha: Any) -> Array:
    """Negative values as alpha * (exp(x) - 1)."""
    return np.asarray(np.where(x < 0, np.float32(alpha) * np.expm1(np.minimum(x, 0)), x))


def prelu(x: Array, alpha: Array) -> Array:
    """Negative values of `x (N, C, ...)` times alpha (C,)."""
    return np.asarray(np.where(x < 0, x * np.reshape(alpha, (-1, *[1] * (x.ndim - 2))), x))


def gelu(x: Array, mode: str = "EXACT") -> Array:
    """Gaussian error linear unit in one of MIL's three modes."""
    if mode not in _GELU:
        raise ValueError(f"mode {mode} of gelu")
    return in_chunks(_GELU[mode], x)


def _gelu_exact(x: Array) -> Array:
    return np.asarray((0.5 * x) * (1.0 + _erf(x * 0.5**0.5)))


def _gelu_tanh(x: Array) -> Array:
    inner = np.float32((2.0 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x)
    return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))


def _gelu_sigmoid(x: Array) -> Array:
    return np.asarray(x * sigmoid(np.float32(1.702) * x))


_GELU: dict[str, _Function] = {
    "EXACT": _gelu_exact,
    "TANH_APPROXIMATION": _gelu_tanh,
    "SIGMOID_APPROXIMATION": _gelu_sigmoid,
}

# Eigen's rational approximation of erf, an odd function on [-4, 4] (Eigen/src/Core/MathFunctionsImpl.h, 3.4). In
# float64 its error is at most 6.5e-8 everywhere.
_ERF_NUMERATOR = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_DENOMINATOR = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def _erf(x: Array) -> Array:
    """The error function, which numpy lacks, in float64 with an error of at most 6.5e-8."""
    clipped = np.clip(np.asarray(x, np.float64), -4.0, 4.0)
    square = clipped * clipped
    parts = []
    for coefficients in (_ERF_NUMERATOR, _ERF_DENOMINATOR):
        total = np.full_like(square, coefficients[0])
        for coefficient in coefficients[1:]:
            total *= square
            total += coefficient
        parts.append(total)
    clipped *= parts[0]
    clipped /= parts[1]
    return clipped


def cast(x: Array, dtype: str) -> Array:
    """Values as another type; the program rounds floats to the declared one."""
    names = {"fp16": "float32", "fp32": "float32", "bool": "bool"}
    return np.asarray(x).astype(names.get(dtype, dtype))


def select(cond: Array, a: Array, b: Array) -> Array:
    """Values of a where the condition is true, of b elsewhere."""
    return np.where(cond, a, b)


# Functions of one array; slow ones are computed in chunks.
_UNARY: dict[str, _Function] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "identity": lambda x: x,
    "logical_not": np.logical_not,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "round": np.rint,  # halves to even
    "sign": np.sign,
    "sqrt": np.sqrt,
    "square": np.square,
}
_UNARY_SLOW: dict[str, _Function] = {
    "cos": np.cos,
    "erf": _erf,
    "exp": np.exp,
    "exp2": np.exp2,
    "sigmoid": sigmoid,
    "silu": silu,
    "sin": np.sin,
    "softplus": softplus,
    "tanh": np.tanh,
}
_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "equal": np.equal,
    "floor_div": np.floor_divide,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,  # with the divisor's sign
    "mul": np.multiply,
    "not_equal": np.not_equal,
    "pow": np.power,
    "real_div": np.divide,
    "sub": np.subtract,
}


def _unary(function: _Function) -> Callable[..., Array]:
    """A function with MIL's parameter name; numpy's take positional arguments only."""
    return lambda x: np.asarray(function(x))


def _unary_in_chunks(function: _Function) -> Callable[..., Array]:
    return lambda x: in_chunks(function, np.asarray(x))


def _binary(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda x, y: np.asarray(function(x, y))


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **{op_type: _unary(function) for op_type, function in _UNARY.items()},
    **{op_type: _unary_in_chunks(function) for op_type, function in _UNARY_SLOW.items()},
    **{op_type: _binary(function) for op_type, function in _BINARY.items()},
    "cast": cast,
    "clip": clip,
    "elu": elu,
    "gelu": gelu,
    "inverse": inverse,
    "leaky_relu": leaky_relu,
    "log": log,
    "prelu": prelu,
    "rsqrt": rsqrt,
    "select": select,
}
