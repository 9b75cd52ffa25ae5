"""Things in a photo that nobody has drawn masks on: what the fp32 model itself finds when it is clicked at all over.

Boxes put anywhere mean nothing, a model answers them with scraps, and how a scrap changes in eight bits tells little of
how masks do. So, as SAM's data engine does in its automatic stage (arXiv 2304.02643, section 4), a grid of clicks is
asked, and of the answers those are taken that the model is surest of and that stay the same under another threshold.
"""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.arrays import Float32
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

CLICKS_A_SIDE = 8
MOST = 8  # things
SHARES = (0.002, 0.6)  # of the photo that a thing may cover
OFFSET = 1.0  # of the threshold, either way, that a mask should not mind: SAM's `stability_score_offset`
SAME = 0.7  # masks with more IoU than this are one thing


def found_masks(reference: Backend, manifest: Manifest, embeddings: Float32, frame: Frame) -> tuple[Rle, ...]:
    """Masks of the photo, in COCO's run lengths, at most `MOST`; none where the model finds nothing.

    Args:
        reference: the fp32 model.
        manifest: of the bundle that is to be made; its capacity does not matter.
        embeddings: `(1, C, S/16, S/16)` of the photo.
        frame: the photo's.
    """
    height, width = frame.original_size
    clicks = (point_grid(CLICKS_A_SIDE) * (width, height))[:, None]
    prompts = build_prompts(frame, clicks, np.full((len(clicks), 1), float(Label.FOREGROUND)), None, None)
    low_res, iou = decode_prompts(reference, manifest.of_any_capacity(), embeddings, prompts)
    best = low_res[np.arange(len(low_res)), 1 + iou[:, 1:].argmax(axis=1)]  # (clicks, S/4, S/4)
    seen = tuple(-(-size // MASK_STRIDE) for size in frame.resized_size)
    logits = best[:, : seen[0], : seen[1]]
    shares = (logits > MASK_THRESHOLD).mean(axis=(1, 2))
    worth = stability_score(logits, MASK_THRESHOLD, OFFSET) * iou[:, 1:].max(axis=1)
    taken: list[int] = []
    for index in np.argsort(-worth, kind="stable").tolist():
        mask = logits[index] > MASK_THRESHOLD
        if len(taken) == MOST:
            break
        if not SHARES[0] <= shares[index] <= SHARES[1]:
            continue
        if all(mask_iou(mask, logits[other] > MASK_THRESHOLD) < SAME for other in taken):
            taken.append(index)
    return tuple(rle.encode(upscale_binary(best[index][None], frame)[0]) for index in taken)
