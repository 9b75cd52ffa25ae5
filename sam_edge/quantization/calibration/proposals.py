"""Masks that the fp32 model proposes on a photo that nobody annotated, from prompts on a point grid.

Boxes placed at random outline no object: the model returns masks of a few pixels for them, and how those change in INT8
says little about real masks. So, as in the automatic stage of SAM's data engine (arXiv 2304.02643, section 4), the
model gets a point grid, and the masks with the highest predicted IoU and stability score are kept.
"""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.arrays import Features
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.grids import point_grid
from sam_edge_runtime.automatic.mask_statistics import stability_score
from sam_edge_runtime.automatic.rle import Rle
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.contract import MASK_STRIDE, MASK_THRESHOLD, Label
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.photo.masks import upscale_binary
from sam_edge_runtime.prompts import build_prompts

POINTS_PER_SIDE = 8
MOST_MASKS = 8
AREAS = (0.002, 0.6)  # of a mask, as a share of the photo
STABILITY_OFFSET = 1.0  # SAM's `stability_score_offset`
SAME_OBJECT_IOU = 0.7  # masks with a higher IoU are one object


def propose_masks(reference: Backend, manifest: Manifest, features: Features, frame: Frame) -> tuple[Rle, ...]:
    """Masks of the photo as COCO run lengths, best first, at most `MOST_MASKS`; empty if the model finds no object.

    Args:
        reference: the fp32 model.
        manifest: of the bundle that is being made; its capacity does not matter.
        features: of the photo.
        frame: the photo's.
    """
    height, width = frame.original_size
    clicks = (point_grid(POINTS_PER_SIDE) * (width, height))[:, None]
    prompts = build_prompts(frame, clicks, np.full((len(clicks), 1), float(Label.FOREGROUND)), None, None)
    low_res, iou, _ = decode_prompts(reference, manifest.of_any_capacity(), features, prompts)
    best = low_res[np.arange(len(low_res)), 1 + iou[:, 1:].argmax(axis=1)]  # (clicks, S/4, S/4)
    h, w = (-(-size // MASK_STRIDE) for size in frame.resized_size)
    logits = best[:, :h, :w]  # without the frame's padding
    areas = (logits > MASK_THRESHOLD).mean(axis=(1, 2))
    quality = stability_score(logits, MASK_THRESHOLD, STABILITY_OFFSET) * iou[:, 1:].max(axis=1)
    chosen: list[int] = []
    for index in np.argsort(-quality, kind="stable").tolist():
        mask = logits[index] > MASK_THRESHOLD
        if len(chosen) == MOST_MASKS:
            break
        if not AREAS[0] <= areas[index] <= AREAS[1]:
            continue
        if all(mask_iou(mask, logits[other] > MASK_THRESHOLD) < SAME_OBJECT_IOU for other in chosen):
            chosen.append(index)
    return tuple(rle.encode(upscale_binary(best[index][None], frame)[0]) for index in chosen)
