"""The clicks of an evaluation: where an attentive user would click next.

RITM's protocol (https://arxiv.org/abs/2102.06583, section on evaluation): there are two error regions, missing and
superfluous pixels. The click goes to the pixel that lies deepest inside one of them. Before any prediction all of the
target is missing, so the first click is the mask's innermost point. The depth of a pixel is its exact Euclidean
distance to the nearest pixel outside the region; everything beyond the picture is outside.

Equal depths are decided in this order: superfluous before missing pixels, as in RITM's own code, then the topmost, then
the leftmost pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from sam_edge_runtime.arrays import Float64, Mask
from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.errors import UsageError


class Click(NamedTuple):
    """A click on the centre of pixel (x, y); `label` is 1 inside the object and 0 outside (`Label`)."""

    x: int
    y: int
    label: int


def first_click(target: Mask) -> Click | None:
    """A click on the innermost point of `target (H, W)` bool; None if it is empty."""
    return next_click(target, np.zeros_like(target))


def next_click(target: Mask, prediction: Mask, earlier: Iterable[Click] = ()) -> Click | None:
    """A click on the deepest pixel of the two error regions.

    Args:
        target: `(H, W)` bool, the true mask.
        prediction: `(H, W)` bool, the current mask.
        earlier: clicks so far; no pixel is clicked twice.

    Returns:
        The click, or None if every wrong pixel has been clicked.

    Raises:
        UsageError: masks are not bool or differ in shape, or scipy is not installed.
    """
    for name, mask in (("target", target), ("prediction", prediction)):
        if mask.ndim != 2 or mask.dtype != np.bool_:
            raise UsageError(f"{name} is {mask.dtype} of shape {mask.shape}; give a bool mask (H, W)")
    if target.shape != prediction.shape:
        raise UsageError(
            f"target {target.shape} and prediction {prediction.shape} differ in size; bring both to the photo's"
        )
    clicked = tuple(earlier)
    missing, missing_depth = _deepest(target & ~prediction, clicked)
    superfluous, superfluous_depth = _deepest(prediction & ~target, clicked)
    if max(missing_depth, superfluous_depth) == 0.0:
        return None
    if missing_depth > superfluous_depth:
        return Click(*missing, int(Label.FOREGROUND))
    return Click(*superfluous, int(Label.BACKGROUND))


def depth(region: Mask) -> Float64:
    """Each pixel's distance to the nearest pixel outside `region (H, W)` bool, in pixels; 0 outside.

    Everything beyond the picture is outside.

    Raises:
        UsageError: scipy is not installed.
    """
    try:
        from scipy.ndimage import distance_transform_edt  # noqa: PLC0415 - train extra
    except ImportError as error:
        raise UsageError("clicks need scipy: pip install 'sam-edge[train]'") from error
    distances: Float64 = distance_transform_edt(np.pad(region, 1))
    return distances[1:-1, 1:-1]


def _deepest(region: Mask, clicked: tuple[Click, ...]) -> tuple[tuple[int, int], float]:
    """(x, y) of the deepest pixel of `region (H, W)` that was not clicked, and its depth; depth 0 if there is none."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not len(rows):
        return (0, 0), 0.0
    # Everything around the region is outside, so its bounding box is enough: most errors are much smaller than photos.
    top, left = int(rows[0]), int(columns[0])
    depths = depth(region[top : rows[-1] + 1, left : columns[-1] + 1])
    height, width = depths.shape
    for x, y, _ in clicked:
        if 0 <= y - top < height and 0 <= x - left < width:
            depths[y - top, x - left] = 0.0
    y, x = divmod(int(depths.argmax()), width)
    return (left + x, top + y), float(depths[y, x])
