"""What a bundle loses against masks that people drew.

Boxes and clicks are simulated from each human mask and seeded by the photo's hash. Every model gets the same prompts on
the same photos, none of which was used for calibration. The score of a prompt is the IoU of the shown mask with the
human one, at the photo's own resolution, as in `sam-edge evaluate`: output 0, and after a single click the one of
outputs 1..3 with the highest predicted IoU.

A photo gets at most `PROMPTS` prompts: each of its masks one, of alternating kinds, and while there are fewer masks
also the other kinds. Different masks say more about a model than different prompts for the same mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np

from sam_edge.data.sample import Sample as AnnotatedPhoto
from sam_edge.data.skips import Skip
from sam_edge.evaluation.paired import PairedLoss, least_photos, paired_loss
from sam_edge.evaluation.sources import short_name
from sam_edge.quantization.calibration.photos import (
    CalibrationPhoto,
    CalibrationSet,
    choose_photos,
    evenly,
    open_photos,
)
from sam_edge.quantization.calibration.prompts import KINDS, ObjectPrompts, prompts_on_mask
from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.arrays import Float64, Mask
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.rle import Rle
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.contract import FIRST_MULTIMASK, SINGLE_OUTPUT
from sam_edge_runtime.decoding import Capacity, as_returned, decode_prompts
from sam_edge_runtime.errors import DataError
from sam_edge_runtime.photo.frame import Frame, fitting_frame
from sam_edge_runtime.photo.masks import upscale_binary
from sam_edge_runtime.prompts import Prompts

PHOTOS = 40
PROMPTS = 12  # of a photo
CLICK = "one click"
PROMPT_KINDS = ("box", CLICK, "three clicks")
# fp32 torch is measured on as many photos as take this share of a search's time; an artifact takes less than torch.
REFERENCE_SHARE = 0.25
FEWEST = 12  # photos that are measured however long that takes


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """The photos that a loss is measured on, in seeded random order.

    Attributes:
        data: name of their source.
        requested: how many were requested; there may be fewer.
        photos: the chosen ones; each has a mask.
        calibrated: photos that were left out because they are calibration photos.
        repeated: photos that were left out because the source has them twice.
        without_masks: photos that were left out because they have no mask.
        skipped: those that could not be read, and why.
    """

    data: str
    requested: int
    photos: tuple[CalibrationPhoto, ...]
    calibrated: int
    repeated: int
    without_masks: int
    skipped: tuple[Skip, ...]

    def to_json(self) -> dict[str, Any]:
        """What a report and a trial cache record: names, hashes and counts, no paths."""
        return {
            "data": self.data,
            "requested": self.requested,
            "photos": [{"shard": each.shard, "key": each.key, "sha256": each.sha256} for each in self.photos],
            "left_out": {
                "calibration_photos": self.calibrated,
                "repeated": self.repeated,
                "without_masks": self.without_masks,
                "unreadable": len(self.skipped),
            },
        }


def labelled_photos(source: str, count: int, calibration: CalibrationSet, confidence: float) -> LabelledSet:
    """Choose photos with masks, evenly; photos of the calibration are left out by the hash of their file.

    Args:
        source: as `open_source` takes it.
        count: how many.
        calibration: the photos that ranges are measured on.
        confidence: of the interval that is computed from them.

    Raises:
        DataError: the source is missing, has no masks, or too few photos with masks for the confidence.
    """
    opened = open_photos(source, count)
    if not opened.annotated:
        raise DataError(f"--labelled {source} has photos without masks: name data with masks, such as SA-1B's shards")
    known = {photo.sha256 for photo in calibration.photos}
    left_out = {"calibrated": 0, "repeated": 0, "without_masks": 0}
    chosen: set[str] = set()

    def wanted(photo: CalibrationPhoto, annotated: AnnotatedPhoto) -> bool:
        reasons = {
            "calibrated": photo.sha256 in known,
            "repeated": photo.sha256 in chosen,
            "without_masks": not annotated.rles,
        }
        reason = next((name for name, applies in reasons.items() if applies), None)
        if reason is not None:
            left_out[reason] += 1
            return False
        chosen.add(photo.sha256)
        return True

    photos, skipped = choose_photos(opened, count, wanted)
    needed = least_photos(confidence)
    if len(photos) < needed:
        others = ", ".join(
            f"{number} {what}"
            for what, number in (
                ("are calibration photos", left_out["calibrated"]),
                ("have no mask", left_out["without_masks"]),
                ("occur twice", left_out["repeated"]),
                ("cannot be read", len(skipped)),
            )
            if number
        )
        raise DataError(
            f"--labelled {source} has {len(photos)} photos with masks that can be used"
            f"{f' ({others})' if others else ''}, too few for a confidence of {confidence}: give at least {needed}"
        )
    order = np.random.default_rng(0).permutation(len(photos)).tolist()
    return LabelledSet(
        short_name(opened.name), count, tuple(photos[place] for place in order), skipped=tuple(skipped), **left_out
    )


class HumanMasks:
    """Compares bundles with fp32 torch on human masks.

    Attributes:
        labelled: the photos.
        confidence: of the interval.
    """

    def __init__(self, labelled: LabelledSet, manifest: Capacity, confidence: float) -> None:
        """Nothing is measured yet.

        Args:
            labelled: the photos.
            manifest: of the bundle that is being made; prompts must fit its decoder.
            confidence: of the interval.
        """
        self.labelled, self.confidence = labelled, confidence
        self._capacity = manifest
        self._prompted: list[_PromptedPhoto] = []
        self._expected: list[Float64] = []

    def measure_reference(
        self, reference: Backend, any_capacity: Capacity, seconds: float, stored: Sequence[Sequence[float]] = ()
    ) -> list[list[float]]:
        """Measure fp32 torch, photo after photo until the time is used; candidates are compared on these photos.

        Args:
            reference: fp32 torch.
            any_capacity: of its decoder.
            seconds: after which no further photo is measured, once there are `FEWEST`.
            stored: scores of an earlier call, which are taken instead.

        Returns:
            The scores of each photo's prompts.

        Raises:
            DataError: a photo can no longer be read.
        """
        deadline, least = monotonic() + seconds, max(FEWEST, least_photos(self.confidence))
        for number, photo in enumerate(self.labelled.photos):
            if number == len(stored) if stored else number >= least and monotonic() > deadline:
                break
            prompted = _PromptedPhoto.of(photo, self._capacity)
            self._prompted.append(prompted)
            scores = stored[number] if stored else prompted.scores(reference, any_capacity)
            self._expected.append(np.asarray(scores, np.float64))
        return [each.tolist() for each in self._expected]

    def __call__(self, backend: Backend) -> PairedLoss:
        """What a bundle's engine loses against fp32 torch."""
        scores = [prompted.scores(backend, self._capacity) for prompted in self._prompted]
        return paired_loss(self._expected, scores, self.confidence)


@dataclass(frozen=True, eq=False)
class _PromptedPhoto:
    """A photo, prompts on its masks, and the mask that each prompt is for."""

    photo: CalibrationPhoto
    frame: Frame
    prompts: Prompts
    targets: tuple[Rle, ...]
    single_click: Mask  # (prompts,)

    @classmethod
    def of(cls, photo: CalibrationPhoto, capacity: Capacity) -> _PromptedPhoto:
        annotated = photo.read()
        frame = fitting_frame(capacity, annotated.size)
        by_area = sorted(annotated.rles, key=rle.area, reverse=True)
        masks = [by_area[place] for place in evenly(len(by_area), min(len(by_area), PROMPTS))]
        rng = np.random.default_rng(photo.seed)
        drawn = [prompts_on_mask(rle.decode(mask), rng) for mask in masks]
        kinds = [name for name in PROMPT_KINDS if capacity.points is None or KINDS[name].slots <= capacity.points]
        turns = [(mask, kinds[(mask + turn) % len(kinds)]) for turn in range(len(kinds)) for mask in range(len(masks))]
        parts, targets, single = [], [], []
        for kind in kinds:
            rows = [mask for mask, own in turns[:PROMPTS] if own == kind]
            if rows:
                objects = ObjectPrompts(*(np.stack([drawn[row][part] for row in rows]) for part in (0, 1)))
                parts.append(objects.prompts(frame, KINDS[kind]))
                targets += [masks[row] for row in rows]
                single += [kind == CLICK] * len(rows)
        return cls(photo, frame, Prompts.joined(parts), tuple(targets), np.array(single))

    def scores(self, backend: Backend, capacity: Capacity) -> Float64:
        """IoU of each prompt's shown mask with the human mask, `(prompts,)`."""
        features = backend.encode(self.frame.image(self.photo.read().photo))
        decoded = decode_prompts(backend, capacity, features, self.prompts)
        low_res, predicted, _ = as_returned(decoded, capacity.conventions)
        best = FIRST_MULTIMASK + predicted[:, FIRST_MULTIMASK:].argmax(axis=1)
        shown = np.where(self.single_click, best, SINGLE_OUTPUT)
        masks = upscale_binary(np.ascontiguousarray(low_res[np.arange(len(shown)), shown]), self.frame)
        return np.array(
            [mask_iou(mask, rle.decode(target)) for mask, target in zip(masks, self.targets, strict=True)], np.float64
        )
