"""Greedy non-maximum suppression: of boxes that overlap much, the one with the best score stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def suppress(
    boxes: npt.NDArray[np.int64] | npt.NDArray[np.float32], scores: npt.NDArray[np.float32], threshold: float
) -> npt.NDArray[np.int64]:
    """Which boxes stay, best score first; of equal scores the earlier one comes first.

    What torchvision.ops.nms does, in the float32 that it computes in.

    Args:
        boxes: (K, 4) x0, y0, x1, y1.
        scores: (K).
        threshold: a box falls to a better one by an IoU above it.

    Returns:
        Indices, ascending in rank.
    """
    corners = boxes.astype(np.float32)
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        top_left = np.maximum(corners[best, :2], corners[rest, :2])
        bottom_right = np.minimum(corners[best, 2:], corners[rest, 2:])
        overlap = np.maximum(bottom_right - top_left, 0).prod(axis=1)
        # Multiplied out, so that two boxes without area need no division: neither falls to the other.
        order = rest[~(overlap > threshold * (areas[best] + areas[rest] - overlap))]
    return np.array(kept, np.int64)
