"""Matrix products, convolutions and attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array

from .convolution import conv, conv_transpose
from .reductions import softmax


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """`x (..., C)` times `weight (D, C)`, transposed, plus bias (D,)."""
    out = x.reshape(-1, x.shape[-1]) @ weight.T  # one large product, not many small ones over (..., H, C)
    if bias is not None:
        out += bias
    return np.asarray(out.reshape(*x.shape[:-1], len(weight)))


def matmul(x: Array, y: Array, transpose_x: Any = False, transpose_y: Any = False) -> Array:
    """Batched matrix product."""
    left, right = x.swapaxes(-1, -2) if bool(transpose_x) else x, y.swapaxes(-1, -2) if bool(transpose_y) else y
    return np.asarray(left @ right)


def einsum(values: list[Array], equation: str) -> Array:
    """`nchw,nwhu->nchu` or `chw,whr->chr`, in any letters; batch axes of size 1 are broadcast."""
    letters: dict[str, str] = {}
    plain = "".join(
        letters.setdefault(sign, "abcdefgh"[len(letters)]) if sign.isalpha() else sign
        for sign in equation.replace(" ", "")
    )
    if plain not in {"abcd,adce->abce", "abc,cbd->abd"}:
        raise ValueError(f"equation {equation} of einsum")
    left, right = (each.swapaxes(-3, -2) for each in values)
    return np.asarray((left @ right).swapaxes(-3, -2))


def scaled_dot_product_attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Array:
    """Softmax(QK' / sqrt(E) + mask) V; a bool mask is true for the keys that take part."""
    scores = (query * np.float32(query.shape[-1] ** -0.5)) @ key.swapaxes(-1, -2)
    if attn_mask is not None:
        bias = np.where(attn_mask, np.float32(0), np.float32(-np.inf)) if attn_mask.dtype == bool else attn_mask
        scores += bias
    return np.asarray(softmax(scores, out=scores) @ value)


PRODUCTS: dict[str, Callable[..., Any]] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "einsum": einsum,
    "linear": linear,
    "matmul": matmul,
    "scaled_dot_product_attention": scaled_dot_product_attention,
}
