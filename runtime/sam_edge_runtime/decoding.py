"""Decodes any number of prompts on one photo, in as many calls as the decoder's capacity requires; chooses masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from sam_edge_runtime.errors import BackendError

from .arrays import Decoded, Features, Float32, Int64
from .bundle.contract import FIRST_MULTIMASK, MASK_OUTPUTS, SINGLE_OUTPUT
from .bundle.conventions import Conventions
from .photo.frame import Framed

if TYPE_CHECKING:
    from .backends import Backend
    from .prompts import Prompts


# Of SAM 2 (facebookresearch/sam2, sam2/build_sam.py, `apply_postprocessing`): a single mask is stable where moving its
# threshold by the first either way keeps this share of its area.
STABILITY_OFFSET = 0.05
LEAST_STABILITY = 0.98


class Capacity(Framed, Protocol):
    """Limits of a decoder; a `Manifest` has them.

    Attributes:
        call_sizes: numbers of prompts that a call may have, ascending; empty: any number.
        points: fixed number of slots N of a prompt; None: any number.
    """

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


def require_finite_features(features: Features) -> None:
    """Refuse a photo's features that are not finite; see `require_finite`."""
    embeddings, *further = features
    require_finite("the embeddings of the photo", embeddings)
    for each in further:
        require_finite("the features of the photo", each)


def require_finite_masks(decoded: Decoded) -> None:
    """Refuse outputs of the mask decoder that are not finite; see `require_finite`."""
    require_finite("the masks", decoded.low_res_masks)
    require_finite("the IoU predictions", decoded.iou_predictions)
    if decoded.object_scores is not None:
        require_finite("the object scores", decoded.object_scores)


def decode_prompts(backend: Backend, capacity: Capacity, features: Features, prompts: Prompts) -> Decoded:
    """All four masks of every prompt.

    Args:
        backend: the engine that decodes.
        capacity: limits that each call keeps.
        features: of the photo, as `Backend.encode` returns them.
        prompts: B prompts in frame coordinates.

    Raises:
        PromptError: a prompt needs more slots than the decoder has.
        BackendError: the engine failed.
    """
    low_res = np.empty((len(prompts), MASK_OUTPUTS, *prompts.frame.cells), np.float32)
    iou = np.empty((len(prompts), MASK_OUTPUTS), np.float32)
    objects = np.empty((len(prompts), 1), np.float32) if capacity.conventions.object_score else None
    done = 0
    for feed in prompts.feeds(capacity.call_sizes, capacity.points):
        decoded = backend.decode(features, *feed.arrays)
        if (decoded.object_scores is None) != (objects is None):
            raise BackendError(
                "the decoder and the manifest differ in whether there is an object score: export the bundle again"
            )
        rows = slice(done, done + feed.count)
        low_res[rows] = decoded.low_res_masks[: feed.count]
        iou[rows] = decoded.iou_predictions[: feed.count]
        if objects is not None and decoded.object_scores is not None:
            objects[rows] = decoded.object_scores[: feed.count]
        done += feed.count
    return Decoded(low_res, iou, objects)


def masks_per_prompt(conventions: Conventions, *, multimask: bool) -> int:
    """How many masks `select_masks` gives a prompt."""
    return MASK_OUTPUTS - FIRST_MULTIMASK if multimask and not conventions.best_only else 1


def limited(low_res: Float32, conventions: Conventions) -> Float32:
    """Low-resolution logits of any shape as a user gets them, and as mask prompts take them."""
    limit = conventions.logit_limit
    return low_res if limit is None else low_res.clip(-limit, limit)


def as_returned(decoded: Decoded, conventions: Conventions) -> Decoded:
    """The outputs with the mask that a user gets as the single one in place of output 0."""
    if not conventions.stability_fallback:
        return decoded
    low_res, iou = decoded.low_res_masks.copy(), decoded.iou_predictions.copy()
    low_res[:, SINGLE_OUTPUT], iou[:, SINGLE_OUTPUT] = _picked(decoded, _single_output(decoded, conventions))
    return Decoded(low_res, iou, decoded.object_scores)


def select_masks(decoded: Decoded, conventions: Conventions, *, multimask: bool) -> tuple[Float32, Float32]:
    """The masks that a user gets of the four.

    With `multimask` outputs 1, 2 and 3, or only the best of them; else output 0, or the best of the others where
    output 0 is not stable. The best has the highest IoU prediction.

    Args:
        decoded: outputs for B prompts.
        conventions: of the model's family.
        multimask: whether the prompts may be ambiguous.

    Returns:
        Logits `(B, M, H/4, W/4)` and IoU predictions `(B, M)`, float32, contiguous; M is 3 or 1.
    """
    if masks_per_prompt(conventions, multimask=multimask) > 1:
        several = slice(FIRST_MULTIMASK, MASK_OUTPUTS)
        low_res, iou = decoded.low_res_masks[:, several], decoded.iou_predictions[:, several]
        return np.ascontiguousarray(low_res), np.ascontiguousarray(iou)
    low_res, iou = _picked(decoded, _best_output(decoded) if multimask else _single_output(decoded, conventions))
    return low_res[:, None], iou[:, None]


def _picked(decoded: Decoded, outputs: Int64) -> tuple[Float32, Float32]:
    """Logits `(B, H/4, W/4)` and IoU predictions `(B)` of one output `(B)` of each prompt."""
    rows = np.arange(len(outputs))
    return decoded.low_res_masks[rows, outputs], decoded.iou_predictions[rows, outputs]


def _single_output(decoded: Decoded, conventions: Conventions) -> Int64:
    """The index `(B)` of each prompt's single mask: 0, or the best of 1, 2, 3 where output 0 is not stable."""
    first = np.full(len(decoded.iou_predictions), SINGLE_OUTPUT)
    if not conventions.stability_fallback:
        return first
    stable = _stability(decoded.low_res_masks[:, SINGLE_OUTPUT]) >= LEAST_STABILITY
    return np.where(stable, first, _best_output(decoded))


def _best_output(decoded: Decoded) -> Int64:
    best: Int64 = FIRST_MULTIMASK + decoded.iou_predictions[:, FIRST_MULTIMASK:].argmax(axis=1)
    return best


def _stability(logits: Float32) -> Float32:
    """How stable masks `(B, H/4, W/4)` are, `(B)` from 0 to 1; 1 for an empty one."""
    higher, lower = (
        np.count_nonzero(logits > offset, axis=(1, 2)).astype(np.float32)
        for offset in (STABILITY_OFFSET, -STABILITY_OFFSET)
    )
    stability: Float32 = np.divide(higher, lower, out=np.ones_like(higher), where=lower > 0)
    return stability
