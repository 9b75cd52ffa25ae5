"""Rounding to float16 by arithmetic equals numpy's conversion, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_runtime.mil import chunks
from sam_edge_runtime.mil.rounding import round_to_float16

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def expected(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def check(x: np.ndarray) -> None:
    rounded, want = round_to_float16(x), expected(x)
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(rounded), np.isnan(want))
    number = ~np.isnan(want)
    np.testing.assert_array_equal(rounded[number].view(np.uint32), want[number].view(np.uint32))  # signs of zeros too


def test_every_float16_value_stays_unchanged():
    check(ALL)


@pytest.mark.parametrize("nudge", [-1, 0, 1])
def test_halves_round_to_even_and_their_neighbours_to_the_nearest(nudge):
    positive = np.sort(ALL[np.isfinite(ALL) & (ALL >= 0)])
    halves = ((positive[:-1].astype(np.float64) + positive[1:]) / 2).astype(np.float32)  # exact in float32
    halves = np.append(halves, np.float32(65520))  # between the largest and infinity
    halves = (halves.view(np.int32) + nudge).view(np.float32)
    check(np.concatenate([halves, -halves]))


def test_random_bits_of_float32_round_alike():
    check(np.random.default_rng(0).integers(0, 1 << 32, 1 << 20, dtype=np.uint32).view(np.float32))


def test_rounding_in_place_on_threads_and_shapes(monkeypatch):
    x = np.random.default_rng(1).standard_normal((3, 5, 7)).astype(np.float32)
    want = expected(x)
    monkeypatch.setattr(chunks, "_THREADS", 2)
    monkeypatch.setattr(chunks, "_LEAST_FOR_THREADS", 0)
    monkeypatch.setattr(chunks, "CHUNK", 4)
    np.testing.assert_array_equal(round_to_float16(x), want)
    np.testing.assert_array_equal(round_to_float16(x.transpose(2, 0, 1)), want.transpose(2, 0, 1))
    kept = x.copy()
    assert round_to_float16(kept, out=kept) is kept
    np.testing.assert_array_equal(kept, want)
    assert round_to_float16(np.float32(2049)).shape == ()
    assert round_to_float16(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_chunks_give_what_the_whole_array_gives(monkeypatch):
    x = np.random.default_rng(2).standard_normal((4, 6, 5)).astype(np.float32)
    monkeypatch.setattr(chunks, "_THREADS", 3)
    monkeypatch.setattr(chunks, "_LEAST_FOR_THREADS", 0)
    monkeypatch.setattr(chunks, "CHUNK", 10)
    rows = chunks.in_chunks(lambda part: part - part.max(axis=-1, keepdims=True), x, kept=1)
    np.testing.assert_array_equal(rows, x - x.max(axis=-1, keepdims=True))
    np.testing.assert_array_equal(chunks.in_chunks(np.abs, x), np.abs(x))
