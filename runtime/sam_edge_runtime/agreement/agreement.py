"""Agreement of a bundle with the fp32 model that it was made from: figures, and the bounds that they must reach.

The golden test, `sam-edge verify` and the reports use the same records. `BOUNDS` is one table by target and precision:
fp32 may differ by rounding only, fp16 by the rounding of 11-bit mantissas, integers by what masks tolerate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_edge_runtime.arrays import Float32, Mask
from sam_edge_runtime.bundle.targets import TARGETS, target_named
from sam_edge_runtime.errors import UsageError

from .metrics import boundary_iou, mask_iou, snr_db

if TYPE_CHECKING:
    from sam_edge_runtime.bundle.manifest import Manifest


@dataclass(frozen=True)
class Bounds:
    """Accuracy bounds of a bundle against the fp32 model.

    Attributes:
        mask_miou: smallest mean IoU of masks, 0..1.
        iou_prediction_error: largest absolute difference of an IoU prediction.
        embedding_snr_db: smallest signal-to-noise ratio of an image embedding, in dB.
        logit_snr_db: smallest signal-to-noise ratio of a prompt's mask logits, in dB. A mask shows only the sign of
            its logits; their size matters in mask prompts and stability scores.
    """

    mask_miou: float
    iou_prediction_error: float
    embedding_snr_db: float
    logit_snr_db: float


_FP32 = Bounds(mask_miou=0.999, iou_prediction_error=1e-3, embedding_snr_db=60.0, logit_snr_db=60.0)
_FP16 = Bounds(mask_miou=0.99, iou_prediction_error=1e-2, embedding_snr_db=40.0, logit_snr_db=40.0)
# Quantization must keep masks; the other bounds only detect outputs that are broken.
_INT8 = Bounds(mask_miou=0.98, iou_prediction_error=0.1, embedding_snr_db=10.0, logit_snr_db=10.0)
# Published W8A8 encoders on Hexagon keep 0.75 to 0.78 of the masks, those with 16-bit activations 0.95 to 0.98.
_NPU = Bounds(mask_miou=0.95, iou_prediction_error=0.1, embedding_snr_db=10.0, logit_snr_db=10.0)
_INT4 = Bounds(mask_miou=0.9, iou_prediction_error=0.2, embedding_snr_db=5.0, logit_snr_db=5.0)
_BY_PRECISION = {
    "fp32": _FP32,
    **dict.fromkeys(("fp16", "mixed"), _FP16),
    **dict.fromkeys(("w8", "dynamic", "w8a8", "w8a16"), _INT8),
    "w4": _INT4,
    "npu": _NPU,
}
# (target, precision): bounds. `auto` is a recipe that was searched for, `custom` one from a file.
BOUNDS: dict[tuple[str, str], Bounds] = {
    **{
        (target.name, precision): _BY_PRECISION[precision]
        for target in TARGETS.values()
        for precision in (*target.precisions, *target.schemes)
    },
    **{(target, precision): _INT8 for target in TARGETS for precision in ("auto", "custom")},
}


# A picture input rounds the frame's padding, which is the pixel mean, to integers. That alone limits the embedding's
# SNR to 57 dB or more (measured: nano and TinyViT at 512, half of the frame padded).
PICTURE_SNR_DB = 50.0


def bounds_for(target: str, precision: str, *, picture_input: bool = False) -> Bounds:
    """The bounds of a kind of bundle.

    Args:
        target: a key of `TARGETS`.
        precision: a precision or scheme of the target, `auto` or `custom`.
        picture_input: whether the encoder takes an 8-bit picture, which loosens all but the mask bound.

    Raises:
        UsageError: an unknown target, or a precision that it does not have.
    """
    known = [p for t, p in BOUNDS if t == target_named(target).name]
    if precision not in known:
        raise UsageError(
            f"no accuracy bounds for target {target} at precision {precision!r}: choose one of {', '.join(known)}"
        )
    bounds = BOUNDS[target, precision]
    if not picture_input:
        return bounds
    return replace(
        bounds,
        iou_prediction_error=max(bounds.iou_prediction_error, _FP16.iou_prediction_error),
        embedding_snr_db=min(bounds.embedding_snr_db, PICTURE_SNR_DB),
        logit_snr_db=min(bounds.logit_snr_db, _FP16.logit_snr_db),
    )


def bounds_of(manifest: Manifest) -> Bounds:
    """The bounds of a bundle. A recipe that was searched for within a mask bound has that bound.

    Raises:
        UsageError: there are none for its target and precision.
    """
    bounds = bounds_for(manifest.target, manifest.precision, picture_input=manifest.picture_input)
    searched = manifest.recipe.get("bound")
    return replace(bounds, mask_miou=float(searched)) if isinstance(searched, int | float) else bounds


@dataclass(frozen=True)
class Check:
    """One figure, formatted for people.

    Attributes:
        figure: its name.
        measured: its value.
        bound: its bound; empty where it has none.
        holds: whether it reaches the bound.
        where: the worst prompt and photo, for the message that a bound was missed.
    """

    figure: str
    measured: str
    bound: str = ""
    holds: bool = True
    where: str = ""


@dataclass(frozen=True)
class PromptAgreement:
    """Agreement of one prompt's four masks with the reference.

    Attributes:
        prompt: its name in reports.
        mask_iou: IoU of each mask, at the photo's size where there is a photo.
        boundary_iou: boundary IoU of each mask, at the low resolution.
        iou_prediction_error: largest absolute difference of the four IoU predictions, and of the probability that the
            prompt has an object, where the model predicts it.
        logit_snr_db: signal-to-noise ratio of the four masks' low-resolution logits, in dB.
    """

    prompt: str
    mask_iou: tuple[float, ...]
    boundary_iou: tuple[float, ...]
    iou_prediction_error: float
    logit_snr_db: float


@dataclass(frozen=True)
class PhotoAgreement:
    """Agreement on one photo.

    Attributes:
        photo: its name in reports.
        embedding_snr_db: signal-to-noise ratio of its embedding, in dB; with further features the smallest of all.
        embedding_cosine: cosine similarity of its embedding with the reference's.
        prompts: all prompts on it.
    """

    photo: str
    embedding_snr_db: float
    embedding_cosine: float
    prompts: tuple[PromptAgreement, ...]


@dataclass(frozen=True)
class Agreement:
    """Agreement on all photos, and the figures that have bounds.

    Raises:
        UsageError: there is no prompt at all.
    """

    photos: tuple[PhotoAgreement, ...]

    def __post_init__(self) -> None:
        if not any(photo.prompts for photo in self.photos):
            raise UsageError("nothing to compare: no photo, or no prompt that fits the decoder")

    @property
    def prompts(self) -> tuple[tuple[PhotoAgreement, PromptAgreement], ...]:
        """Every prompt, with its photo."""
        return tuple((photo, prompt) for photo in self.photos for prompt in photo.prompts)

    @property
    def mask_miou(self) -> float:
        """Mean IoU over photos, prompts and the four masks."""
        return float(np.mean([iou for _, prompt in self.prompts for iou in prompt.mask_iou]))

    @property
    def boundary_miou(self) -> float:
        """Mean boundary IoU over photos, prompts and the four masks."""
        return float(np.mean([iou for _, prompt in self.prompts for iou in prompt.boundary_iou]))

    @property
    def iou_prediction_error(self) -> float:
        """Largest absolute difference of an IoU prediction; NaN if any is NaN."""
        return float(np.max([prompt.iou_prediction_error for _, prompt in self.prompts]))

    @property
    def embedding_snr_db(self) -> float:
        """Smallest signal-to-noise ratio of an embedding, in dB; NaN if any is NaN."""
        return float(np.min([photo.embedding_snr_db for photo in self.photos]))

    @property
    def logit_snr_db(self) -> float:
        """Smallest signal-to-noise ratio of a prompt's mask logits, in dB; NaN if any is NaN."""
        return float(np.min([prompt.logit_snr_db for _, prompt in self.prompts]))

    @property
    def worst(self) -> tuple[PhotoAgreement, PromptAgreement]:
        """The photo and prompt with the lowest single mask IoU."""
        return min(self.prompts, key=lambda pair: min(pair[1].mask_iou))

    def checks(self, bounds: Bounds) -> tuple[Check, ...]:
        """Every figure with its bound. NaN reaches no bound."""
        photo, prompt = self.worst
        return (
            Check(
                "mask mIoU",
                f"{self.mask_miou:.6f}",
                f">= {bounds.mask_miou}",
                self.mask_miou >= bounds.mask_miou,
                f" (worst: {prompt.prompt} on {photo.photo})",
            ),
            Check("boundary mIoU", f"{self.boundary_miou:.6f}"),
            Check(f"lowest mask IoU: {prompt.prompt}, {photo.photo}", f"{min(prompt.mask_iou):.6f}"),
            Check(
                "largest difference of an IoU prediction",
                f"{self.iou_prediction_error:.1e}",
                f"<= {bounds.iou_prediction_error:.0e}",
                self.iou_prediction_error <= bounds.iou_prediction_error,
            ),
            Check(
                "embedding SNR, worst photo",
                f"{self.embedding_snr_db:.1f} dB",
                f">= {bounds.embedding_snr_db:.0f} dB",
                self.embedding_snr_db >= bounds.embedding_snr_db,
            ),
            Check(
                "mask logit SNR, worst prompt",
                f"{self.logit_snr_db:.1f} dB",
                f">= {bounds.logit_snr_db:.0f} dB",
                self.logit_snr_db >= bounds.logit_snr_db,
            ),
        )

    def missed(self, bounds: Bounds) -> tuple[str, ...]:
        """One line for each bound that was missed."""
        return tuple(
            f"{check.figure} is {check.measured}, the bound is {check.bound}{check.where}"
            for check in self.checks(bounds)
            if not check.holds
        )

    def summary(self) -> dict[str, Any]:
        """The figures, as `report.json` stores them."""
        photo, prompt = self.worst
        return {
            "photos": len(self.photos),
            "prompts": len(self.prompts),
            "mask_miou": self.mask_miou,
            "boundary_miou": self.boundary_miou,
            "iou_prediction_error": self.iou_prediction_error,
            "embedding_snr_db": self.embedding_snr_db,
            "logit_snr_db": self.logit_snr_db,
            "worst": {"photo": photo.photo, "prompt": prompt.prompt, "mask_iou": min(prompt.mask_iou)},
        }


def with_object(iou: Float32, object_score: Float32 | None) -> Float32:
    """IoU predictions `(4,)`, followed by the probability of an object where there is its logit `(1,)`."""
    if object_score is None:
        return iou
    probability: Float32 = 1 / (1 + np.exp(-object_score.clip(-60, 60)))
    return np.concatenate([iou, probability])


def compare_prompt(
    prompt: str,
    masks: tuple[Mask, Mask],
    low_res: tuple[Mask, Mask],
    iou_predictions: tuple[Float32, Float32],
    logits: tuple[Float32, Float32],
) -> PromptAgreement:
    """Compare the outputs for one prompt. In every pair the reference comes first.

    Args:
        prompt: its name in reports.
        masks: `(4, H, W)` bool each, for the mask IoU.
        low_res: `(4, S/4, S/4)` bool each, for the boundary IoU.
        iou_predictions: `(4,)` float32 each, or `(5,)` as `with_object` makes them.
        logits: `(4, s, s)` float32 each, low-resolution logits or a subset of them.
    """
    return PromptAgreement(
        prompt,
        tuple(mask_iou(a, b) for a, b in zip(*masks, strict=True)),
        tuple(boundary_iou(a, b) for a, b in zip(*low_res, strict=True)),
        float(np.abs(iou_predictions[0] - iou_predictions[1]).max()),
        snr_db(*logits),
    )
