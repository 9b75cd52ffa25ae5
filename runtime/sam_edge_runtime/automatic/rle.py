"""COCO's run-length encoding (RLE) of binary masks.

A mask is read column by column and stored as the lengths of its runs, of zeros first (of length 0 if the first pixel
is set). The compressed form is a string. It holds each length, from the fourth on minus the length two before, in
groups of five bits, lowest first. A sixth bit marks that more groups follow; the highest bit of the last group is the
sign; 48 is added to give a printable character (cocodataset/cocoapi, common/maskApi.c, `rleToString`). Whole arrays are
computed at once; the only loop runs over the groups of a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.errors import UsageError

_GROUP_BITS = 5
_MORE = 1 << _GROUP_BITS
_SIGN = 1 << (_GROUP_BITS - 1)
_FIRST_CHARACTER = 48
_LAST_CHARACTER = _FIRST_CHARACTER + 2 * _MORE - 1
_MOST_GROUPS = 12  # 60 bits, which fit an int64
_FIRST_DIFFERENCE = 3  # the index of the first length that is stored as a difference

# Pixels of a mask that `decode` makes; it needs two bytes for each. A 108-megapixel photo has less than half of them.
LARGEST_MASK = 1 << 28
_LONGEST_SIDE = 1 << 30  # so that the product of two fits an int64

Counts = npt.NDArray[np.int64]


class Rle(TypedDict):
    """A mask in COCO's compressed form: `size` [H, W] and the string `counts`."""

    size: list[int]
    counts: str


class UncompressedRle(TypedDict):
    """A mask in COCO's uncompressed form: `size` [H, W] and the run lengths `counts`, zeros first."""

    size: list[int]
    counts: list[int]


def run_lengths(mask: npt.NDArray[np.bool_]) -> Counts:
    """The run lengths (R) of a mask (H, W), column by column, zeros first.

    Raises:
        UsageError: the mask is not a two-dimensional bool array.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise UsageError(f"a {mask.dtype} array of shape {mask.shape} is no mask; give a bool array of shape (H, W)")
    pixels = mask.T.ravel()
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts = np.concatenate([[0], changes, [pixels.size]]).astype(np.int64)
    lengths = np.diff(starts)
    return np.concatenate([[0], lengths]) if pixels.size and pixels[0] else lengths


def run_lengths_of_part(columns: npt.NDArray[np.bool_], at: tuple[int, int], size: tuple[int, int]) -> Counts:
    """The run lengths (R) of a mask that is empty outside a rectangular part.

    Args:
        columns: (w, h) bool, the transposed part.
        at: x, y of the part's first pixel.
        size: (H, W) of the mask, which contains the part.
    """
    height, width = size
    edges = np.pad(columns, ((0, 0), (1, 1)))
    x, y = np.nonzero(edges[:, 1:] != edges[:, :-1])
    changes = (x + at[0]) * height + y + at[1]
    # A run that ends at the bottom of a column and goes on at the top of the next is one run: remove both changes.
    continued = np.flatnonzero(changes[1:] == changes[:-1])
    return lengths_between(np.delete(changes, [continued, continued + 1]), height * width)


def lengths_between(changes: Counts, pixels: int) -> Counts:
    """Run lengths (R) from the pixels where a mask changes.

    Args:
        changes: indices of the pixels that differ from the one before, ascending; before the first, all are zero.
        pixels: of the mask.
    """
    lengths = np.diff(changes, prepend=0, append=pixels)
    return lengths if lengths[-1] or len(lengths) == 1 else lengths[:-1]


def compress(lengths: Counts) -> str:
    """Run lengths (R) to COCO's string."""
    values = lengths.copy()
    values[_FIRST_DIFFERENCE:] -= lengths[1:-2]
    characters = np.zeros((len(values), _MOST_GROUPS), np.uint8)  # 0: not written
    active = np.ones(len(values), np.bool_)
    for group in range(_MOST_GROUPS):
        bits = values & (_MORE - 1)
        values = values >> _GROUP_BITS
        more = np.where(bits & _SIGN, values != -1, values != 0)
        characters[active, group] = ((bits | np.where(more, _MORE, 0)) + _FIRST_CHARACTER)[active]
        active &= more
        if not active.any():
            break
    written: bytes = characters[characters != 0].tobytes()
    return written.decode("ascii")


def decompress(counts: str) -> Counts:
    """COCO's string to run lengths (R).

    Raises:
        UsageError: no string; or one with a character that COCO does not use, with a number that is too long, or that
            ends within a number.
    """
    return decompress_all([counts])[0]


def decompress_all(strings: Sequence[str]) -> tuple[Counts, Counts]:
    """The run lengths of several masks at once, in much less time than one by one.

    Returns:
        The run lengths (R) of all masks, one mask after the other, and the number of runs (M) of each.

    Raises:
        UsageError: see `decompress`.
    """
    for counts in strings:
        if not isinstance(counts, str):
            raise UsageError(f"the counts of a compressed RLE are a {type(counts).__name__}; give COCO's string")
    encoded = [counts.encode("utf-8", "replace") for counts in strings]
    string_ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
    codes = np.frombuffer(b"".join(encoded), np.uint8).astype(np.int64)
    if codes.size == 0:
        return np.zeros(0, np.int64), np.zeros(len(strings), np.int64)
    if codes.min() < _FIRST_CHARACTER or codes.max() > _LAST_CHARACTER:
        raise UsageError("the counts of an RLE have characters outside COCO's '0' to 'o'; it is damaged or not an RLE")
    codes -= _FIRST_CHARACTER
    is_end = (codes & _MORE) == 0
    if not is_end[string_ends[string_ends > 0] - 1].all():
        raise UsageError("the counts of an RLE end within a number; the string was cut off")
    ends = np.flatnonzero(is_end)
    starts = np.concatenate([[0], ends[:-1] + 1])
    groups = ends - starts + 1
    if groups.max() > _MOST_GROUPS:
        raise UsageError(
            f"the counts of an RLE have a number of {groups.max()} characters, more than {_MOST_GROUPS}; it is damaged"
        )
    place = np.arange(codes.size) - np.repeat(starts, groups)
    values = np.add.reduceat((codes & (_MORE - 1)) << (_GROUP_BITS * place), starts)
    values -= np.where(codes[ends] & _SIGN, np.left_shift(1, _GROUP_BITS * groups), 0)
    numbers = np.diff(np.searchsorted(ends, string_ends), prepend=0)
    _undo_differences(values, numbers)
    return values, numbers


def _undo_differences(values: Counts, numbers: Counts) -> None:
    """Turn stored values into lengths, in place; `numbers` (M) says how many values each mask has.

    From the fourth on, a value is the length minus that two before. So those at odd indices of a mask are one sum that
    runs on, and those at even indices from 2 another.
    """
    if len(numbers) == 1:
        values[1::2] = np.cumsum(values[1::2])
        values[2::2] = np.cumsum(values[2::2])
        return
    index = np.arange(values.size) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    is_odd = (index & 1) == 1
    for chosen, lengths in ((is_odd, numbers // 2), (~is_odd & (index > 0), np.maximum(numbers - 1, 0) // 2)):
        sums = np.cumsum(values[chosen])
        before = np.cumsum(lengths) - lengths
        values[chosen] = sums - np.repeat(np.concatenate([[0], sums])[before], lengths)


def encode(mask: npt.NDArray[np.bool_]) -> Rle:
    """A mask (H, W) to COCO's compressed form; the string equals pycocotools'.

    Raises:
        UsageError: the mask is not a two-dimensional bool array.
    """
    height, width = mask.shape if mask.ndim == 2 else (0, 0)
    return {"size": [height, width], "counts": compress(run_lengths(mask))}


def decode(rle: Rle | UncompressedRle) -> npt.NDArray[np.bool_]:
    """Either form of RLE to a mask (H, W) bool.

    Raises:
        UsageError: no RLE; the counts are damaged or do not cover the size; more than `LARGEST_MASK` pixels.
    """
    lengths, (height, width) = checked_lengths(rle)
    if height * width > LARGEST_MASK:
        raise UsageError(
            f"an RLE of {height}x{width} pixels is larger than any photo that is read here ({LARGEST_MASK:,} pixels)"
        )
    pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def area(rle: Rle | UncompressedRle) -> int:
    """The number of pixels inside a mask.

    Raises:
        UsageError: no RLE, or the counts are damaged or do not cover the size.
    """
    lengths, _ = checked_lengths(rle)
    return int(lengths[1::2].sum())


def checked_lengths(rle: object) -> tuple[Counts, tuple[int, int]]:
    """The run lengths and the size (H, W) of either form of RLE.

    Raises:
        UsageError: no RLE, or the counts are damaged or do not cover the size.
    """
    if not isinstance(rle, Mapping) or "size" not in rle or "counts" not in rle:
        raise UsageError("this is no RLE; give a dict with 'size' [H, W] and 'counts'")
    size, counts = rle["size"], rle["counts"]
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(map(_is_length, size)):
        raise UsageError(f"an RLE has the size {size!r:.60}; give [H, W] in pixels")
    height, width = (int(each) for each in size)
    pixels = height * width
    lengths = decompress(counts) if isinstance(counts, str) else _listed(counts, pixels)
    # Each length is bounded before the sum, which could overflow to the right number.
    damaged = lengths[(lengths < 0) | (lengths > pixels)]
    if damaged.size:
        raise UsageError(f"an RLE has a run of {int(damaged[0])} pixels; it is damaged")
    total = int(lengths.sum())
    if total != pixels:
        raise UsageError(
            f"the runs of an RLE cover {total} pixels, but its size {height}x{width} has {pixels}; "
            "it is damaged or belongs to another photo"
        )
    return lengths, (height, width)


def _listed(counts: object, pixels: int) -> Counts:
    """Run lengths given as numbers, of which none is larger than the mask."""
    if isinstance(counts, np.ndarray) and counts.ndim == 1:
        counts = counts.tolist()
    if not isinstance(counts, list | tuple) or not all(map(_is_integer, counts)):
        raise UsageError("the counts of an RLE are neither COCO's string nor a list of integers")
    if any(abs(length) > pixels for length in counts):
        raise UsageError(f"an RLE has a run of more than its {pixels} pixels; it is damaged")
    return np.array(counts, np.int64)


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_length(value: object) -> bool:
    return _is_integer(value) and bool(0 <= value <= _LONGEST_SIDE)  # type: ignore[operator]  # an integer, as checked
