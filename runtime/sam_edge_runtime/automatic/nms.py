"""Non-maximum suppression: of boxes that overlap, the one with the best score stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def nms(
    boxes: npt.NDArray[np.int64] | npt.NDArray[np.float32], scores: npt.NDArray[np.float32], threshold: float
) -> npt.NDArray[np.int64]:
    """Greedy non-maximum suppression, equal to torchvision.ops.nms and like it computed in float32.

    Args:
        boxes: (K, 4) x0, y0, x1, y1.
        scores: (K).
        threshold: a box is removed if its IoU with a better one is larger.

    Returns:
        Indices of the remaining boxes, by descending score; of equal scores the earlier box comes first.
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
        # IoU > threshold without the division, which two boxes without area would make 0 / 0: both stay.
        order = rest[~(overlap > threshold * (areas[best] + areas[rest] - overlap))]
    return np.array(kept, np.int64)
