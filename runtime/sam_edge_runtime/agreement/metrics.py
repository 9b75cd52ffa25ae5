"""Measures of agreement between two masks or two tensors."""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.arrays import Features, Float32, Mask
from sam_edge_runtime.photo.erosion import eroded

# Width of the boundary, as a fraction of the mask's diagonal ("Boundary IoU", arXiv 2103.16562, section 4).
BOUNDARY_SHARE = 0.02
LARGEST_SNR = 200.0  # dB: bit-identical tensors have this value, so that reports contain no infinity


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks `(H, W)` bool; 1 when both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def boundary_iou(a: Mask, b: Mask) -> float:
    """Boundary IoU of two masks `(H, W)` bool (arXiv 2103.16562); 1 when both are empty.

    It is the IoU of the masks' inner rims, 2 % of the diagonal wide.
    """
    return mask_iou(inner_rim(a), inner_rim(b))


def inner_rim(mask: Mask, size: tuple[int, int] | None = None) -> Mask:
    """Pixels of a mask `(H, W)` within the rim's width of its outside; everything beyond the picture is outside.

    Args:
        mask: the mask, or a part of it that holds all of its pixels.
        size: (H, W) of the whole picture, which the width depends on; None: the mask's.
    """
    width = max(1, round(BOUNDARY_SHARE * float(np.hypot(*(size or mask.shape)))))
    return mask & ~eroded(mask, width)


def snr_db(reference: Float32, output: Float32) -> float:
    """Signal-to-noise ratio in dB, -200..200: power of the reference over power of the difference.

    200 where both are equal; -200 where the difference is not finite or the reference is zero.
    """
    signal = float(np.square(reference, dtype=np.float64).sum())
    with np.errstate(invalid="ignore"):  # inf - inf
        noise = float(np.square(reference.astype(np.float64) - output).sum())
    if noise == 0.0:
        return LARGEST_SNR
    if not np.isfinite(noise) or signal == 0.0:
        return -LARGEST_SNR
    return min(LARGEST_SNR, 10.0 * float(np.log10(signal / noise)))


def features_snr_db(reference: Features, output: Features) -> float:
    """The smallest `snr_db` of a photo's features."""
    return min(snr_db(*pair) for pair in zip(reference, output, strict=True))


def cosine(reference: Float32, output: Float32) -> float:
    """Cosine similarity of two flattened arrays, -1..1; 0 where one is zero or not finite."""
    a, b = reference.astype(np.float64).ravel(), output.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 and np.isfinite(norms) else 0.0
