"""Evaluation clicks: known innermost points, and depths against a search over all pixels."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sam_edge.prompting.clicks import Click, depth, first_click, next_click
from sam_edge_runtime.errors import UsageError


def rectangle(x0: int, y0: int, x1: int, y1: int, h: int = 30, w: int = 40) -> np.ndarray:
    """(h, w), x1 and y1 excluded."""
    mask = np.zeros((h, w), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def searched_depth(region: np.ndarray) -> np.ndarray:
    """Distance to the nearest pixel outside, also beyond the picture, computed pixel by pixel."""
    padded = np.pad(region, 1)
    outside = np.argwhere(~padded)
    distances = np.zeros(region.shape)
    for y, x in np.argwhere(region):
        distances[y, x] = np.sqrt(((outside - (y + 1, x + 1)) ** 2).sum(axis=1).min())
    return distances


EMPTY = rectangle(0, 0, 0, 0)


@pytest.mark.parametrize(
    "region",
    [
        EMPTY,
        ~EMPTY,
        rectangle(0, 0, 11, 7),
        rectangle(35, 25, 40, 30) | rectangle(3, 3, 4, 20),
        np.random.default_rng(0).random((30, 40)) > 0.1,
    ],
    ids=["empty", "all", "corner", "two parts", "noise"],
)
def test_depth_is_the_exact_distance_and_everything_beyond_the_picture_is_outside(region):
    assert np.array_equal(depth(region), searched_depth(region))


@pytest.mark.parametrize(
    ("target", "place"),
    [
        (rectangle(10, 5, 15, 10), (12, 7)),  # the middle of 5 x 5
        (rectangle(7, 8, 8, 9), (7, 8)),  # one pixel
        (rectangle(0, 0, 5, 5), (2, 2)),  # in the corner: everything beyond the picture is outside
        (rectangle(35, 25, 40, 30), (37, 27)),
        (~EMPTY[:5, :5], (2, 2)),  # all of the picture
        (rectangle(10, 5, 14, 9), (11, 6)),  # four equal middles: the topmost, then the leftmost
        (rectangle(20, 10, 23, 13) | rectangle(2, 20, 9, 27), (5, 23)),  # the larger of two parts
    ],
)
def test_the_first_click_is_the_innermost_point(target, place):
    assert first_click(target) == (*place, 1)


def test_the_next_click_is_in_the_larger_error():
    target = rectangle(5, 5, 20, 20)
    assert next_click(target, rectangle(5, 5, 13, 20)) == (16, 8, 1)  # 7 x 15 missing: depth 4, from row 8 on
    assert next_click(target, rectangle(5, 5, 29, 20)) == (24, 9, 0)  # 9 x 15 too much: depth 5, from row 9 on
    both = rectangle(5, 8, 30, 20)  # three rows missing, ten columns too much
    assert next_click(target, both).label == 0
    both = rectangle(12, 5, 23, 20)  # seven columns missing, three too much
    assert next_click(target, both).label == 1


def test_the_deeper_error_is_clicked_not_the_larger_one():
    """A long thin error has more pixels, a compact one is deeper."""
    target = rectangle(0, 0, 40, 2) | rectangle(10, 10, 15, 15)
    assert next_click(target, EMPTY) == (12, 12, 1)


def test_of_equal_depths_the_background_is_clicked_first():
    target, prediction = rectangle(0, 0, 5, 5), rectangle(20, 20, 25, 25)
    assert next_click(target, prediction) == (22, 22, 0)


def test_without_an_error_there_is_no_click():
    target = rectangle(3, 3, 9, 9)
    assert next_click(target, target.copy()) is None
    assert first_click(EMPTY) is None
    assert next_click(~EMPTY, ~EMPTY) is None


def test_no_pixel_is_clicked_twice():
    target = rectangle(10, 5, 15, 10)
    clicks: list[Click] = []
    for _ in range(25):
        click = next_click(target, EMPTY, clicks)
        assert target[click.y, click.x]
        clicks.append(click)
    assert clicks[0] == (12, 7, 1)
    assert len(set(clicks)) == 25  # each pixel once
    assert next_click(target, EMPTY, clicks) is None
    other = [Click(0, 0, 0), Click(39, 29, 0)]
    assert next_click(target, EMPTY, other) == clicks[0]  # clicks elsewhere make no difference


def test_clicks_are_python_integers():
    click = first_click(rectangle(10, 5, 15, 10))
    assert [type(value) for value in click] == [int, int, int]


@pytest.mark.parametrize("seed", range(5))
def test_depths_in_the_error_s_bounding_box_equal_those_in_the_whole_picture(seed):
    """`next_click` crops to the bounding box; here depths are computed over the whole picture."""
    rng = np.random.default_rng(seed)
    target, prediction = (rng.random((25, 35)) > 0.3 for _ in range(2))
    missing, superfluous = searched_depth(target & ~prediction), searched_depth(prediction & ~target)
    depths, label = (missing, 1) if missing.max() > superfluous.max() else (superfluous, 0)
    y, x = np.unravel_index(depths.argmax(), depths.shape)
    assert next_click(target, prediction) == (x, y, label)


def test_inputs_are_not_changed():
    target, prediction = rectangle(3, 3, 9, 9), rectangle(5, 5, 20, 20)
    copies = target.copy(), prediction.copy()
    next_click(target, prediction, [Click(3, 3, 1)])
    assert np.array_equal(target, copies[0])
    assert np.array_equal(prediction, copies[1])


def test_masks_of_another_type_or_shape_are_refused():
    with pytest.raises(UsageError, match="target is uint8"):
        next_click(EMPTY.astype(np.uint8), EMPTY)
    with pytest.raises(UsageError, match="prediction is bool of shape"):
        next_click(EMPTY, EMPTY[None])
    with pytest.raises(UsageError, match="differ in size"):
        next_click(EMPTY, EMPTY[:20])


def test_a_missing_scipy_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(UsageError, match=r"sam-edge\[train\]"):
        first_click(rectangle(3, 3, 9, 9))
