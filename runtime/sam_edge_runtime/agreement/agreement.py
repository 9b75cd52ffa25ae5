"""How well a bundle agrees with the fp32 model it was made from, and how well it has to.

The measurements are plain records, so that the golden test, the verification against torch and the reports speak of
the same numbers. The bounds stand in one table: fp32 may differ by rounding only, fp16 by what 11 bits leave of it.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """What a bundle must reach.

    Attributes:
        mask_miou: smallest mean IoU of its masks with the fp32 model's.
        iou_prediction_error: largest absolute difference of an IoU prediction.
        embedding_snr_db: smallest signal-to-noise ratio of an embedding.
        logit_snr_db: smallest signal-to-noise ratio of a prompt's mask logits. Masks only show their sign; their size
            counts where they come back as a mask prompt, and in stability scores.
    """

    mask_miou: float
    iou_prediction_error: float
    embedding_snr_db: float
    logit_snr_db: float


_ROUNDING = Bounds(mask_miou=0.999, iou_prediction_error=1e-3, embedding_snr_db=60.0, logit_snr_db=60.0)
_HALF = Bounds(mask_miou=0.99, iou_prediction_error=1e-2, embedding_snr_db=40.0, logit_snr_db=40.0)
# What quantization must keep is masks; of the rest only that it did not fall apart.
_EIGHT_BITS = Bounds(mask_miou=0.98, iou_prediction_error=0.1, embedding_snr_db=10.0, logit_snr_db=10.0)
_FOUR_BITS = Bounds(mask_miou=0.9, iou_prediction_error=0.2, embedding_snr_db=5.0, logit_snr_db=5.0)
_BY_PRECISION = {
    "fp32": _ROUNDING,
    **dict.fromkeys(("fp16", "mixed"), _HALF),
    **dict.fromkeys(("w8", "dynamic", "w8a8", "w8a16"), _EIGHT_BITS),
    "w4": _FOUR_BITS,
}
# (target, precision): bounds. `auto` is a recipe that was searched for, `custom` one from a file.
BOUNDS: dict[tuple[str, str], Bounds] = {
    **{
        (target.name, precision): _BY_PRECISION[precision]
        for target in TARGETS.values()
        for precision in (*target.precisions, *target.schemes)
    },
    **{(target, precision): _EIGHT_BITS for target in TARGETS for precision in ("auto", "custom")},
}


# Where photos come as 8-bit pictures the frame's padding, which is the pixel mean, is rounded to whole numbers. That
# alone leaves 57 dB of an embedding, or more (measured: nano and TinyViT at 512, half of the frame padded).
PICTURE_SNR_DB = 50.0


def bounds_for(target: str, precision: str, *, picture_input: bool = False) -> Bounds:
    """The bounds of a kind of bundle.

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
        iou_prediction_error=max(bounds.iou_prediction_error, _HALF.iou_prediction_error),
        embedding_snr_db=min(bounds.embedding_snr_db, PICTURE_SNR_DB),
        logit_snr_db=min(bounds.logit_snr_db, _HALF.logit_snr_db),
    )


def bounds_of(manifest: Manifest) -> Bounds:
    """The bounds of a bundle; of masks the one that its recipe was searched for, where it was.

    Raises:
        UsageError: none are set for its kind.
    """
    bounds = bounds_for(manifest.target, manifest.precision, picture_input=manifest.picture_input)
    asked = manifest.recipe.get("bound")
    return replace(bounds, mask_miou=float(asked)) if isinstance(asked, int | float) else bounds


@dataclass(frozen=True)
class Check:
    """One figure, ready to print: what it is, what was measured, the bound if there is one, and whether it holds.

    `where` names the worst place, for the line that says that the bound was missed.
    """

    figure: str
    measured: str
    bound: str = ""
    holds: bool = True
    where: str = ""


@dataclass(frozen=True)
class PromptAgreement:
    """One prompt's four masks against the reference's.

    Attributes:
        prompt: what was asked, in words.
        mask_iou: IoU of each of the four outputs, at the photo's size where there is a photo.
        boundary_iou: boundary IoU of each of the four outputs, at the low resolution.
        iou_prediction_error: largest absolute difference of the four IoU predictions.
        logit_snr_db: signal-to-noise ratio of the four outputs' low-resolution logits.
    """

    prompt: str
    mask_iou: tuple[float, ...]
    boundary_iou: tuple[float, ...]
    iou_prediction_error: float
    logit_snr_db: float


@dataclass(frozen=True)
class PhotoAgreement:
    """One photo: its embedding and all its prompts."""

    photo: str
    embedding_snr_db: float
    embedding_cosine: float
    prompts: tuple[PromptAgreement, ...]


@dataclass(frozen=True)
class Agreement:
    """All photos; the figures that bounds speak of are derived from them."""

    photos: tuple[PhotoAgreement, ...]

    def __post_init__(self) -> None:
        if not any(photo.prompts for photo in self.photos):
            raise UsageError("nothing to compare: no photo, or no prompt that fits the decoder")

    @property
    def prompts(self) -> tuple[tuple[PhotoAgreement, PromptAgreement], ...]:
        """Every prompt beside its photo."""
        return tuple((photo, prompt) for photo in self.photos for prompt in photo.prompts)

    @property
    def mask_miou(self) -> float:
        """Mean IoU over photos, prompts and the four outputs."""
        return float(np.mean([iou for _, prompt in self.prompts for iou in prompt.mask_iou]))

    @property
    def boundary_miou(self) -> float:
        """Mean boundary IoU over photos, prompts and the four outputs."""
        return float(np.mean([iou for _, prompt in self.prompts for iou in prompt.boundary_iou]))

    @property
    def iou_prediction_error(self) -> float:
        """Largest difference of an IoU prediction."""
        return _worst_of([prompt.iou_prediction_error for _, prompt in self.prompts])

    @property
    def embedding_snr_db(self) -> float:
        """The worst photo's signal-to-noise ratio, or NaN if any is NaN."""
        return float(np.min([photo.embedding_snr_db for photo in self.photos]))

    @property
    def logit_snr_db(self) -> float:
        """The worst prompt's signal-to-noise ratio of mask logits, or NaN if any is NaN."""
        return float(np.min([prompt.logit_snr_db for _, prompt in self.prompts]))

    @property
    def worst(self) -> tuple[PhotoAgreement, PromptAgreement]:
        """The photo and prompt with the lowest single mask IoU."""
        return min(self.prompts, key=lambda pair: min(pair[1].mask_iou))

    def checks(self, bounds: Bounds) -> tuple[Check, ...]:
        """Every figure beside its bound. NaN holds no bound."""
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
        """One line for each bound that does not hold; empty when all do."""
        return tuple(
            f"{check.figure} is {check.measured}, the bound is {check.bound}{check.where}"
            for check in self.checks(bounds)
            if not check.holds
        )

    def summary(self) -> dict[str, Any]:
        """The derived figures as they stand in `report.json`."""
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


def compare_prompt(
    prompt: str,
    masks: tuple[Mask, Mask],
    low_res: tuple[Mask, Mask],
    iou_predictions: tuple[Float32, Float32],
    logits: tuple[Float32, Float32],
) -> PromptAgreement:
    """Compare one prompt's answers, the reference's first in every pair.

    Args:
        prompt: what was asked, in words.
        masks: `(4, H, W)` each, the masks whose IoU counts.
        low_res: `(4, S/4, S/4)` each, on which boundaries are compared.
        iou_predictions: `(4)` each.
        logits: `(4, s, s)` each, low-resolution logits or a sample of them.
    """
    return PromptAgreement(
        prompt,
        tuple(mask_iou(a, b) for a, b in zip(*masks, strict=True)),
        tuple(boundary_iou(a, b) for a, b in zip(*low_res, strict=True)),
        float(np.abs(iou_predictions[0] - iou_predictions[1]).max()),
        snr_db(*logits),
    )


def _worst_of(errors: Sequence[float]) -> float:
    """The largest, or NaN if any is NaN."""
    return float(np.max(errors))
