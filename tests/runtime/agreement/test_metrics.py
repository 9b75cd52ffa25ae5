"""Metrics of masks and embeddings: known values, and the inner rim against repeated erosion."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sam_edge_runtime.agreement.metrics import LARGEST_SNR, boundary_iou, cosine, inner_rim, mask_iou, snr_db

NAN, INF = float("nan"), float("inf")


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def square(side: int, start: int, stop: int) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[start:stop, start:stop] = True
    return mask


def disc(h: int, w: int, x: float, y: float, radius: float) -> np.ndarray:
    return np.hypot(*np.meshgrid(np.arange(w) - x, np.arange(h) - y)) < radius


def masks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "empty": np.zeros((40, 60), bool),
        "full": np.ones((40, 60), bool),
        "one pixel": square(30, 7, 8),
        "square in the middle": square(100, 20, 80),
        "at the corner": square(100, 0, 50),
        "disc": disc(90, 130, 60, 45, 38),
        "disc cut by the edge": disc(200, 120, 110, 15, 70),
        "ring": disc(120, 120, 60, 60, 50) & ~disc(120, 120, 60, 60, 20),
        "few holes": rng.random((150, 150)) > 0.002,
        "noise": rng.random((64, 64)) > 0.5,
        "one row": np.ones((1, 50), bool),
        "one column": np.ones((50, 1), bool),
        "smaller than the rim": np.ones((2, 300), bool),
    }


# Masks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (square(10, 0, 4), square(10, 0, 4), 1.0),
        (square(10, 0, 4), square(10, 4, 8), 0.0),
        (square(10, 0, 4), square(10, 2, 6), 4 / 28),
        (square(10, 0, 2), square(10, 0, 4), 4 / 16),
        (square(10, 0, 0), square(10, 0, 4), 0.0),
        (square(10, 0, 0), square(10, 0, 0), 1.0),
    ],
    ids=["equal", "apart", "overlapping", "contained", "one empty", "both empty"],
)
def test_mask_iou_of_known_squares(a, b, expected):
    assert mask_iou(a, b) == expected
    assert mask_iou(b, a) == expected
    assert type(mask_iou(a, b)) is float


def eroded_repeatedly(mask: np.ndarray, times: int) -> np.ndarray:
    """`times` erosions by 3 x 3 with Pillow. A border keeps Pillow's edge handling away from the picture."""
    picture = Image.fromarray(np.pad(mask, times + 2).astype(np.uint8) * 255)
    for _ in range(times):
        picture = picture.filter(ImageFilter.MinFilter(3))
    inside = slice(times + 2, -times - 2)
    return np.asarray(picture)[inside, inside] > 0


@pytest.mark.parametrize("name", masks())
def test_the_inner_rim_is_removed_by_erosions_over_2_percent_of_the_diagonal(name):
    mask = masks()[name]
    width = max(1, round(0.02 * (mask.shape[0] ** 2 + mask.shape[1] ** 2) ** 0.5))
    np.testing.assert_array_equal(inner_rim(mask), mask & ~eroded_repeatedly(mask, width))


def test_a_rim_is_at_least_one_pixel_wide_and_includes_the_edge_of_the_picture():
    assert inner_rim(np.ones((10, 10), bool)).sum() == 100 - 64
    assert inner_rim(np.ones((100, 100), bool)).sum() == 10_000 - (100 - 2 * 3) ** 2  # 2 % of 141.4 is 2.8


def test_boundary_iou_of_known_squares():
    a, b = square(100, 20, 80), square(100, 21, 81)  # rims three pixels wide: 684 pixels each
    both = np.count_nonzero(inner_rim(a) & inner_rim(b))
    assert inner_rim(a).sum() == inner_rim(b).sum() == 60**2 - 54**2
    assert boundary_iou(a, b) == pytest.approx(both / (2 * 684 - both), abs=1e-12)
    assert boundary_iou(a, a) == 1.0
    assert boundary_iou(a, np.zeros_like(a)) == 0.0
    assert boundary_iou(np.zeros_like(a), np.zeros_like(a)) == 1.0


def test_boundary_iou_detects_a_shift_that_mask_iou_hardly_detects():
    a, b = disc(400, 400, 200, 200, 150), disc(400, 400, 204, 200, 150)
    assert mask_iou(a, b) > 0.96
    assert boundary_iou(a, b) < 0.75


# Embeddings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "found", "expected"),
    [
        (f32(3, 4), f32(3, 4), LARGEST_SNR),
        (f32(0, 0), f32(0, 0), LARGEST_SNR),
        (f32(10, 0), f32(9, 0), 20.0),
        (f32(1, 0), f32(1, 1), 0.0),
        (f32(1, 0), f32(11, 0), -20.0),
        (f32(3, 4), f32(0, 0), 0.0),
        (f32(0, 0), f32(0, 1e-3), -LARGEST_SNR),
        (f32(1, 2), f32(1, NAN), -LARGEST_SNR),
        (f32(1, 2), f32(1, INF), -LARGEST_SNR),
        (f32(1, NAN), f32(1, NAN), -LARGEST_SNR),
        (f32(1, INF), f32(1, 2), -LARGEST_SNR),
        (f32(1, INF), f32(1, INF), -LARGEST_SNR),
        (f32(3e38, 0), f32(-3e38, 0), 10 * np.log10(1 / 4)),
    ],
)
def test_snr_of_known_numbers(reference, found, expected):
    assert snr_db(reference, found) == pytest.approx(expected, abs=1e-9)
    assert type(snr_db(reference, found)) is float


def test_snr_falls_by_20_db_for_ten_times_the_noise():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(1, 4, 8, 8)).astype(np.float32)
    noise = rng.normal(size=reference.shape)
    near, far = (snr_db(reference, (reference + factor * noise).astype(np.float32)) for factor in (0.01, 0.1))
    assert near == pytest.approx(40, abs=1.5)
    assert near - far == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(
    ("reference", "found", "expected"),
    [
        (f32(3, 4), f32(3, 4), 1.0),
        (f32(3, 4), f32(30, 40), 1.0),
        (f32(3, 4), f32(-3, -4), -1.0),
        (f32(1, 0), f32(0, 7), 0.0),
        (f32(1, 0), f32(1, 1), 0.5**0.5),
        (f32(0, 0), f32(0, 0), 0.0),
        (f32(1, 2), f32(0, 0), 0.0),
        (f32(1, 2), f32(1, NAN), 0.0),
        (f32(1, INF), f32(1, INF), 0.0),
        (f32(1, INF), f32(0, 0), 0.0),
        (f32(3e38, 3e38), f32(3e38, 3e38), 1.0),
    ],
)
def test_cosine_of_known_numbers(reference, found, expected):
    assert cosine(reference, found) == pytest.approx(expected, abs=1e-12)
    assert cosine(reference[None, :, None], found[None, :, None]) == pytest.approx(expected, abs=1e-12)
    assert type(cosine(reference, found)) is float
