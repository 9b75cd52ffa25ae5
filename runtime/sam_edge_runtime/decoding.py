"""Decodes any number of prompts on one photo, in as many calls as the decoder's capacity requires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from sam_edge_runtime.errors import BackendError

from .arrays import Float32
from .bundle.contract import MASK_OUTPUTS, FrameSize

if TYPE_CHECKING:
    from .backends import Backend
    from .prompts import Prompts


class Capacity(Protocol):
    """Limits of a decoder; a `Manifest` has them.

    Attributes:
        frames: sizes (H, W) of the frames that the graphs take, in pixels.
        call_sizes: numbers of prompts that a call may have, ascending; empty: any number.
        points: fixed number of slots N of a prompt; None: any number.
    """

    @property
    def frames(self) -> tuple[FrameSize, ...]: ...  # noqa: D102
    @property
    def call_sizes(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def points(self) -> int | None: ...  # noqa: D102


def require_finite(what: str, values: Float32) -> None:
    """Refuse outputs of a network that no mask can be made of.

    Args:
        what: the outputs, for the message.
        values: any shape.

    Raises:
        BackendError: NaN or infinity is among them.
    """
    if not np.isfinite(values).all():
        raise BackendError(
            f"{what} contain NaN or infinity: this bundle is broken on this engine; `sam-edge verify --trace` finds "
            "where, and an export with --precision fp32 or mixed avoids float16's overflow"
        )


def decode_prompts(
    backend: Backend, capacity: Capacity, embeddings: Float32, prompts: Prompts
) -> tuple[Float32, Float32]:
    """All four masks of every prompt.

    Args:
        backend: the engine that decodes.
        capacity: limits that each call keeps.
        embeddings: `(1, C, H/16, W/16)` float32, of the photo.
        prompts: B prompts in frame coordinates.

    Returns:
        Low-resolution logits `(B, 4, H/4, W/4)` and IoU predictions `(B, 4)`, float32.

    Raises:
        PromptError: a prompt needs more slots than the decoder has.
        BackendError: the engine failed.
    """
    low_res = np.empty((len(prompts), MASK_OUTPUTS, *prompts.frame.cells), np.float32)
    iou = np.empty((len(prompts), MASK_OUTPUTS), np.float32)
    done = 0
    for feed in prompts.feeds(capacity.call_sizes, capacity.points):
        masks, scores = backend.decode(
            embeddings, feed.point_coords, feed.point_labels, feed.mask_input, feed.has_mask_input
        )
        low_res[done : done + feed.count] = masks[: feed.count]
        iou[done : done + feed.count] = scores[: feed.count]
        done += feed.count
    return low_res, iou
