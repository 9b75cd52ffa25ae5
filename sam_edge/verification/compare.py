"""Compares the masks of two engines on one photo, prompt by prompt, at the photo's size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge.prompting.grid import PromptGroup, prompt_groups, refinement
from sam_edge_runtime.agreement.agreement import PhotoAgreement, PromptAgreement, compare_prompt, with_object
from sam_edge_runtime.agreement.metrics import cosine, features_snr_db
from sam_edge_runtime.arrays import Decoded, Features, Float32, Mask
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.contract import MASK_STRIDE, MASK_THRESHOLD, FrameSize
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.photo.frame import Frame, fitting_frame
from sam_edge_runtime.photo.masks import upscale_binary


@dataclass(frozen=True)
class Illustration:
    """The prompt of its kind whose masks differ most on a photo.

    Attributes:
        prompt: the prompt in words.
        iou: IoU of the two masks.
        masks: of the reference and of the bundle, `(H, W)` each.
        points, labels, box: the prompt in pixels of the photo; None where it has none.
    """

    prompt: str
    iou: float
    masks: tuple[Mask, Mask]
    points: npt.NDArray[np.float64] | None
    labels: npt.NDArray[np.float64] | None
    box: npt.NDArray[np.float64] | None


@dataclass(frozen=True)
class PhotoComparison:
    """The comparison of one photo.

    Attributes:
        agreement: the figures.
        skipped: number of prompts that need more slots than the bundle's decoder has.
        illustrations: one for each kind of prompt.
    """

    agreement: PhotoAgreement
    skipped: int
    illustrations: tuple[Illustration, ...]


def compare_photo(
    name: str,
    photo: npt.NDArray[np.uint8],
    reference: Backend,
    bundle: Backend,
    manifest: Manifest,
    size: FrameSize | None = None,
) -> PhotoComparison:
    """Run every prompt through both engines; a bundle of several capacities in calls of each.

    Args:
        name: the photo's name in reports.
        photo: `(H, W, 3)` uint8 RGB.
        reference: fp32 torch.
        bundle: the bundle's engine.
        manifest: the bundle's manifest.
        size: of the frame; None: of the one that the photo fills best.
    """
    frame = fitting_frame(manifest if size is None else manifest.of_frame(size), photo.shape[:2])
    image = frame.image(photo)
    # The reference gets no empty slots, so that the comparison shows what a fixed decoder does with them.
    any_capacity = manifest.of_any_capacity()
    wanted, features = reference.encode(image), bundle.encode(image)
    agreements: list[PromptAgreement] = []
    worst: dict[str, Illustration] = {}
    groups, skipped = _groups_that_fit(frame, manifest, reference, wanted)
    for group in groups:
        expected = decode_prompts(reference, any_capacity, wanted, group.prompts)
        for capacity in manifest.each_capacity():
            computed = decode_prompts(bundle, capacity, features, group.prompts)
            suffix = f", in calls of {capacity.prompts}" if manifest.batches else ""
            for index in range(len(group.names)):
                agreement, illustration = _compare_one(group, index, suffix, frame, expected, computed)
                agreements.append(agreement)
                if group.kind not in worst or illustration.iou < worst[group.kind].iou:
                    worst[group.kind] = illustration
    return PhotoComparison(
        PhotoAgreement(name, features_snr_db(wanted, features), cosine(wanted[0], features[0]), tuple(agreements)),
        skipped,
        tuple(worst.values()),
    )


def _groups_that_fit(
    frame: Frame, manifest: Manifest, reference: Backend, features: Features
) -> tuple[list[PromptGroup], int]:
    """The photo's prompts, and the number of those that need more slots than the decoder has."""
    groups = prompt_groups(frame)
    if manifest.conventions.mask_prompts:
        boxes = groups[1].prompts  # any decoder has slots for them
        low_res, iou, _ = decode_prompts(reference, manifest.of_any_capacity(), features, boxes)
        groups.append(refinement(frame, low_res[0, int(iou[0].argmax())]))
    slots = manifest.points
    fitting = [group for group in groups if slots is None or group.prompts.coords.shape[1] <= slots]
    count = sum(len(group.names) for group in groups) - sum(len(group.names) for group in fitting)
    return fitting, count


def _compare_one(
    group: PromptGroup,
    index: int,
    suffix: str,
    frame: Frame,
    expected: Decoded,
    computed: Decoded,
) -> tuple[PromptAgreement, Illustration]:
    low_res = (expected.low_res_masks[index], computed.low_res_masks[index])  # (4, H/4, W/4) each
    scores = (
        with_object(expected.iou_predictions[index], expected.object_score(index)),
        with_object(computed.iou_predictions[index], computed.object_score(index)),
    )
    masks = (upscale_binary(low_res[0], frame), upscale_binary(low_res[1], frame))  # (4, H, W) each
    inside = (_inside(low_res[0], frame), _inside(low_res[1], frame))
    agreement = compare_prompt(group.names[index] + suffix, masks, inside, scores, low_res)
    shown = int(np.argmin(agreement.mask_iou))
    illustration = Illustration(
        group.names[index] + suffix,
        agreement.mask_iou[shown],
        (masks[0][shown].copy(), masks[1][shown].copy()),
        None if group.points is None else group.points[index],
        None if group.labels is None else group.labels[index],
        None if group.boxes is None else group.boxes[index],
    )
    return agreement, illustration


def _inside(low_res: Float32, frame: Frame) -> Mask:
    """Low-resolution masks without the frame's padding."""
    h, w = (-(-size // MASK_STRIDE) for size in frame.resized_size)
    return low_res[:, :h, :w] > MASK_THRESHOLD
