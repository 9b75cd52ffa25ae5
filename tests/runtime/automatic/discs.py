"""A decoder whose masks are discs around the point, so that a prompt determines its masks exactly."""

from __future__ import annotations

import numpy as np

from sam_edge.prediction.promptable import AnyCapacity
from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.settings import COCO_RLE, AutomaticSettings
from sam_edge_runtime.bundle.contract import FrameSize

SIDE = 256
RADII = (0.0, 12.0, 20.0, 30.0)  # of the four outputs, in pixels of the frame


class DiscBackend:
    """Discs around each prompt's first point; the larger the disc, the lower its predicted IoU."""

    engine = "discs"

    def encode(self, image):
        return (np.zeros((1, 4, SIDE // 16, SIDE // 16), np.float32),)

    def decode(self, features, point_coords, point_labels, mask_input, has_mask_input):
        centres = np.arange(SIDE // 4) * 4 + 2.0
        x, y = point_coords[:, 0, 0], point_coords[:, 0, 1]
        distance = np.hypot(centres[None, None, :] - x[:, None, None], centres[None, :, None] - y[:, None, None])
        low_res = np.stack([2.0 * (radius - distance) for radius in RADII], axis=1).astype(np.float32)
        iou = np.tile(np.array([[0.0, 0.97, 0.95, 0.93]], np.float32), (len(x), 1))
        return Decoded(low_res, iou)


def disc_generator(points_per_side: int = 3) -> AutomaticMaskGenerator:
    settings = AutomaticSettings(points_per_side=points_per_side, stability_score_thresh=0.8, output_mode=COCO_RLE)
    return AutomaticMaskGenerator.from_backend(DiscBackend(), AnyCapacity((FrameSize.square(SIDE),)), settings)
