"""Copy-paste: objects of one training photo on another (arXiv 2012.07177).

Both photos are augmented on their own, as in the paper: random scale, part and flip. A random subset of the objects of
one is laid on the other, without blending, which the paper found to gain nothing. Masks of the photo below lose what is
covered. So objects stand before backgrounds and beside objects that they were never photographed with. The cost: a
second photo has to be decoded.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .augment import Augmentation, Crop

PASTED = -1  # a pasted mask's index in the sample


def paste(below: Crop, above: Crop, options: Augmentation, rng: np.random.Generator) -> Crop:
    """Lay a random subset of the objects of `above` on `below`.

    Args:
        below: a crop; it gives size, source and key.
        above: another, of the same side.
        options: `min_pixels` and `most_masks` hold for the result.
        rng: draws everything random.

    Returns:
        The crop with its masks, as far as they are visible, and those of the pasted objects; at most `most_masks` of
        them, chosen at random. `below` itself where `above` has no objects, or where none of them falls on the photo.
    """
    seen = below.valid() & above.valid()
    chosen = rng.permutation(len(above.masks))[: int(rng.integers(1, max(len(above.masks), 1) + 1))]
    objects = above.masks[chosen] & seen
    objects = objects[objects.sum(axis=(1, 2)) >= options.min_pixels]
    if not len(objects):
        return below
    covered = objects.any(axis=0)
    visible = below.masks & ~covered
    kept = visible.sum(axis=(1, 2)) >= options.min_pixels
    masks = np.concatenate([visible[kept], objects])
    which = np.concatenate([below.which[kept], np.full(len(objects), PASTED, np.int64)])
    drawn = rng.permutation(len(masks))[: options.most_masks]
    return replace(below, image=np.where(covered, above.image, below.image), masks=masks[drawn], which=which[drawn])
