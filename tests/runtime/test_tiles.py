"""Masks computed along their outline are the thresholded logits, to the pixel."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_runtime import tiles as tiles_module
from sam_edge_runtime.frame import Frame
from sam_edge_runtime.masks import axis_matrix, upscale, upscale_binary
from sam_edge_runtime.tiles import TILE, Axis, Tiling

SIZES = [(1500, 2250), (480, 640), (640, 480), (37, 2000), (33, 31), (300, 7)]


def logits(side: int, seed: int = 0) -> np.ndarray:
    """A round thing with a wavy rim, some noise, and cells that hold exactly one value: `(1, S/4, S/4)`."""
    n = side // 4
    y, x = np.mgrid[:n, :n] / n
    angle = np.arctan2(y - 0.3, x - 0.4)
    heights = 40 * (0.25 + 0.03 * np.sin(20 * angle) - np.hypot(x - 0.4, y - 0.3))
    heights += np.random.default_rng(seed).normal(0, 0.3, (n, n))
    return np.maximum(heights, -8).astype(np.float32)[None]


@pytest.mark.parametrize("side", [256, 1024])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threshold", [0.0, 1.5, -8.0])
def test_a_mask_is_where_the_logits_exceed_the_threshold(side, size, threshold):
    frame, low_res = Frame(side, size), logits(side)
    exact = upscale(low_res, frame)
    found = upscale_binary(low_res, frame, threshold)
    differing = found != (exact > threshold)
    assert np.abs(exact[differing] - threshold).max(initial=0) < 1e-5  # the last bit, where the outline itself runs
    assert differing.mean() < 1e-5 or threshold == -8.0  # most of the plain lies on it there


def test_only_tiles_with_an_outline_are_computed(monkeypatch):
    frame = Frame(1024, (1500, 2250))
    rows, columns = (axis_matrix(1024, *pair) for pair in zip(frame.resized_size, frame.original_size, strict=True))
    tiling = Tiling(rows, columns)
    out = np.empty(frame.original_size, np.bool_)
    cells = logits(1024)[0, : rows.shape[1], : columns.shape[1]]
    monkeypatch.setattr(tiles_module, "DENSE", 0.15)
    assert tiling.fill(out, cells, 0.0)
    monkeypatch.setattr(tiles_module, "DENSE", 0.01)
    assert not tiling.fill(out, cells, 0.0)


def test_a_mask_of_noise_is_computed_as_a_whole():
    frame = Frame(256, (480, 640))
    noise = np.random.default_rng(1).normal(size=(2, 64, 64)).astype(np.float32)
    assert np.array_equal(upscale_binary(noise, frame), upscale(noise, frame) > 0)


@pytest.mark.parametrize("value", [0.0, 1e-7, 3.0, -3.0])
def test_a_mask_of_one_value_has_no_outline(value):
    frame = Frame(256, (480, 640))
    flat = np.full((1, 64, 64), value, np.float32)
    assert np.array_equal(upscale_binary(flat, frame), upscale(flat, frame) > 0)


@pytest.mark.parametrize("pixels", [31, 32, 33, 2250])
def test_an_axis_in_tiles_is_the_axis(pixels):
    matrix = axis_matrix(1024, 1024, pixels)
    axis = Axis.of(matrix)
    whole = np.zeros((len(axis.cells) * TILE, matrix.shape[1]), np.float32)
    for tile, (cells, weights) in enumerate(zip(axis.cells, axis.weights, strict=True)):
        whole[tile * TILE : (tile + 1) * TILE, cells] = weights
    assert np.array_equal(whole[:pixels], matrix)
    assert not whole[pixels:].any()
