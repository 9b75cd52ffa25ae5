"""What the Python runtime's automatic masks are, for the tests of the TypeScript package."""

from __future__ import annotations

from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.grids import generate_crops
from sam_edge_runtime.automatic.settings import COCO_RLE, AutomaticSettings
from sam_edge_runtime.bundle.contract import FrameSize
from tests.runtime.automatic.discs import SIDE, DiscBackend
from tests.runtime.standin import manifest

from .packed import array, size

REFINED_RADIUS = 25.0


class RefinedDiscs(DiscBackend):
    """The discs, and an output 0 that is one, too, where the prompt has a mask."""

    def decode(self, features, point_coords, point_labels, mask_input, has_mask_input):
        low_res, iou = super().decode(features, point_coords, point_labels, mask_input, has_mask_input)[:2]
        low_res[:, 0] += np.float32(2 * REFINED_RADIUS) * has_mask_input[:, None, None]
        iou[:, 0] += np.float32(0.9) * has_mask_input
        return Decoded(low_res, iou)


def automatic() -> list[dict[str, Any]]:
    capacity = manifest(frames=(FrameSize.square(SIDE),))
    covered = np.zeros((150, 200), np.bool_)
    covered[:70] = True
    cases = []
    for given, known in (
        ({"points_per_side": 4}, None),
        ({"points_per_side": 3}, covered),
        ({"points_per_side": 5, "points_per_batch": 7, "crop_n_layers": 1, "min_mask_region_area": 900}, None),
        ({"points_per_side": 3, "use_m2m": True}, None),
    ):
        settings = AutomaticSettings(**{"stability_score_thresh": 0.5, **given}, output_mode=COCO_RLE)
        generator = AutomaticMaskGenerator.from_backend(RefinedDiscs(), capacity, settings)
        words = {**given, "stability_score_thresh": 0.5, "output_mode": COCO_RLE}
        split = ((key.split("_"), value) for key, value in words.items())
        cases.append(
            {
                "settings": {first + "".join(map(str.capitalize, rest)): value for (first, *rest), value in split},
                "covered": None if known is None else array(known),
                "records": generator.generate(np.zeros((150, 200, 3), np.uint8), known),
            }
        )
    return cases


def crops() -> list[dict[str, Any]]:
    return [
        {
            "size": size(photo),
            "layers": layers,
            "crops": [[*crop.box, crop.layer] for crop in generate_crops(photo, layers, 512 / 1500)],
        }
        for photo, layers in (((150, 200), 1), ((333, 120), 2))
    ]
