"""What a runtime does to a photo before the encoder and to masks after the decoder, in the words of the manifest."""

from __future__ import annotations

from typing import Any

from .contract import MASK_THRESHOLD, PIXEL_MEAN, PIXEL_STD
from .conventions import Conventions

_PREPROCESSING: dict[str, Any] = {
    "channel_order": "RGB",
    "resize": "longest side to S; the other side to floor(side * S / longest + 0.5)",
    "filter": "bilinear with antialiasing, on uint8 (Pillow's Image.BILINEAR)",
    "pad": "bottom and right, to S x S",
    "pad_value": list(PIXEL_MEAN),
    "normalization": {"inside_graph": True, "mean": list(PIXEL_MEAN), "std": list(PIXEL_STD)},
    "coordinates": "x * resized width / photo width, y likewise; the graph adds 0.5",
}
_POSTPROCESSING: dict[str, Any] = {
    "resize": "bilinear without aligned corners to S x S, crop to the resized photo, bilinear to the photo's size",
    "mask_threshold": MASK_THRESHOLD,
    "single_mask": "output 0",
    "multimask": "outputs 1, 2, 3",
    "slots": "a point takes one, a box two (labels 2 and 3); points without a box end with one at (0, 0) labelled -1",
}
# In place of the entries above where a bundle has frames of other shapes than the square.
_FRAMES_PREPROCESSING: dict[str, Any] = {
    "frame": "of `frames`, the one with the least padding; of equals the one with the larger scale, then the first",
    "resize": "to fit: both sides times the smaller of H / height and W / width, to floor(side + 0.5)",
    "pad": "bottom and right, to H x W",
}
_FRAMES_POSTPROCESSING: dict[str, Any] = {
    "resize": "bilinear without aligned corners to H x W, crop to the resized photo, bilinear to the photo's size",
}
# Likewise where photos are stretched.
_STRETCHED_PREPROCESSING: dict[str, Any] = {
    "resize": "both sides, to S x S",
    "filter": "bilinear with antialiasing, on float32",
    "pad": "none",
    "coordinates": "x * S / photo width, y * S / photo height; the graph adds 0.5",
}
_STRETCHED_POSTPROCESSING: dict[str, Any] = {"resize": "bilinear without aligned corners to the photo's size"}
_ALIASED_FILTER = "bilinear without antialiasing or aligned corners, on float32"
_BICUBIC_RESIZE = "bicubic (a = -0.75) without aligned corners to the photo's size"
_STABLE_SINGLE_MASK = (
    "output 0 if count(logit > 0.05) / count(logit > -0.05) is at least 0.98, else that of 1, 2, 3 with the highest "
    "IoU prediction"
)


def processing(conventions: Conventions, *, frames: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries `preprocessing` and `postprocessing` of a manifest.

    Args:
        conventions: of the model's family.
        frames: whether the bundle has frames of other shapes than the square.
    """
    before, after = dict(_PREPROCESSING), dict(_POSTPROCESSING)
    if frames:
        before |= _FRAMES_PREPROCESSING
        after |= _FRAMES_POSTPROCESSING
    if conventions.stretched:
        before |= _STRETCHED_PREPROCESSING
        after |= _STRETCHED_POSTPROCESSING
    if not conventions.antialiased:
        before["filter"] = _ALIASED_FILTER
    if conventions.bicubic_masks:
        after["resize"] = _BICUBIC_RESIZE
    if conventions.image_stride > 1:
        stride = conventions.image_stride
        before["image_stride"] = (
            f"{stride}: for the encoder, the photo is resized and padded to 1/{stride} of the frame's height and width "
            "by the rules here; coordinates are those of the frame"
        )
    if conventions.slots is not None:
        after["slots"] = (
            f"a point takes one, a box two (labels 2 and 3), {conventions.slots} at most; the others are labelled -2"
        )
    if not conventions.background_points:
        after["background_points"] = "none: label 0 means nothing"
    if not conventions.mask_prompts:
        after["mask_prompts"] = "none"
    if conventions.stability_fallback:
        after["single_mask"] = _STABLE_SINGLE_MASK
    if conventions.best_only:
        after["multimask"] = "that of outputs 1, 2, 3 with the highest IoU prediction"
    if conventions.logit_limit is not None:
        limit = f"{conventions.logit_limit:g}"
        after["logit_limit"] = f"low-resolution logits are returned from -{limit} to {limit}; masks come from all"
    return before, after
