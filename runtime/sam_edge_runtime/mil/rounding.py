"""Rounds float32 values to float16's precision, several times faster than numpy's conversion to float16 and back.

Let 2^e be a value's power of two. Adding and subtracting 1.5 * 2^(e+13) leaves ten bits after the first: the last place
of the sum is 2^(e-10), as in float16, and the processor rounds halves to even. Subnormal float16 values have the last
place of the smallest normal one, so e is at least -14. Values that round to 2^16 or more must become infinite: times
2^112 they exceed float32's range just as they exceed float16's.
"""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.arrays import Array

from .chunks import CHUNK, in_chunks

_EXPONENT, _SIGN = np.int32(0x7F800000), np.int32(-0x80000000)  # bits of float32
# Powers of two as bits of float32. The first is an array: numpy's maximum of two arrays is three times faster.
_SMALLEST = np.full(CHUNK, (127 - 14) << 23, np.int32)
_LARGE, _LARGEST = np.int32((127 + 15) << 23), np.int32((127 + 16) << 23)
_SHIFT = np.int32((13 << 23) | (1 << 22))  # times 1.5 * 2^13
_UP, _DOWN = np.float32(2.0**112), np.float32(2.0**-112)


def round_to_float16(array: Array, out: Array | None = None) -> Array:
    """The nearest float16 values, as float32; halves round to even, values from 65520 on become infinite.

    Args:
        array: float32.
        out: array for the result; `array` itself saves a copy.
    """
    return in_chunks(_round_chunk, np.asarray(array, np.float32), out=out)


def _round_chunk(x: Array) -> Array:
    """`x (n,)` with n at most `CHUNK`."""
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
    np.bitwise_and(bits, _SIGN, out=shift)  # a negative value that rounds to zero is -0
    signed = kept.view(np.int32)
    signed |= shift
    return kept
