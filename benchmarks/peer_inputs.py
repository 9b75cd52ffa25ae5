"""What every contestant of `peers.py` gets: the seed of its weights, and the photo."""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.conventions import SAM, SAM_2, Conventions
from sam_edge_runtime.photo.frame import Frame

SEED = "random:0"  # weights of the models that do not come with any
SAM_2_VARIANTS = ("sam2.1_hiera_tiny", "edgetam")


def conventions_of(variant: str) -> Conventions:
    """How a variant takes photos; known without torch, which plain exports do not need."""
    return SAM_2 if variant in SAM_2_VARIANTS else SAM


def frame_of(variant: str, side: int, size: tuple[int, int]) -> Frame:
    """How a photo of `size` (H, W) lies in the variant's square frame."""
    return Frame(FrameSize.square(side), size, conventions_of(variant))


def draw_photo(size: tuple[int, int]) -> Photo:
    """A drawn photo: a few large discs on a slope of grey, with some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    picture = np.repeat((60 + 80 * y / size[0])[..., None], 3, axis=2)
    for _ in range(12):
        centre, radius = rng.uniform(0, 1, 2) * size, rng.uniform(0.05, 0.2) * size[0]
        picture[np.hypot(y - centre[0], x - centre[1]) < radius] = rng.uniform(0, 255, 3)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
