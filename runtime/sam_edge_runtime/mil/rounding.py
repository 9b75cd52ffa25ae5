"""float32 numbers rounded to those that float16 has, several times faster than numpy's own way there and back.

Adding and taking away 1.5 * 2^(e+13), where 2^e is the number's own power of two, leaves ten bits behind the first: the
sum's last place is worth 2^(e-10), which is float16's, and the processor rounds halves to even. Float16's subnormals
have the last place of its smallest normal number, so e is at least -14. Numbers that round to 2^16 or more are brought
to infinity by a factor of 2^112, with which float32 ends where float16 does.
"""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.arrays import Array

from .blocks import BLOCK, in_blocks

_EXPONENT, _SIGN = np.int32(0x7F800000), np.int32(-0x80000000)  # bits of float32
# Powers of two as float32's bits. The first is an array because numpy's maximum of two arrays is three times faster.
_SMALLEST = np.full(BLOCK, (127 - 14) << 23, np.int32)
_LARGE, _LARGEST = np.int32((127 + 15) << 23), np.int32((127 + 16) << 23)
_SHIFT = np.int32((13 << 23) | (1 << 22))  # times 1.5 * 2^13
_UP, _DOWN = np.float32(2.0**112), np.float32(2.0**-112)


def to_half(array: Array, out: Array | None = None) -> Array:
    """The nearest of float16's numbers, as float32; halves to even, infinity beyond 65504.

    Args:
        array: float32.
        out: where to write; `array` itself saves a copy.
    """
    return in_blocks(_half, np.asarray(array, np.float32), out=out)


def _half(x: Array) -> Array:
    """`x (n,)` with n at most `BLOCK`."""
    bits = x.view(np.int32)
    shift = bits & _EXPONENT
    large = shift.size > 0 and shift.max() >= _LARGE
    np.maximum(shift, _SMALLEST[: shift.size], out=shift)
    if large:
        np.minimum(shift, _LARGEST, out=shift)
    shift += _SHIFT
    kept = x + shift.view(np.float32)
    kept -= shift.view(np.float32)
    if large:
        kept *= _UP
        kept *= _DOWN
    np.bitwise_and(bits, _SIGN, out=shift)  # a negative number that rounds to zero is -0
    signed = kept.view(np.int32)
    signed |= shift
    return kept
