"""The losses: focal and dice loss of the masks, squared error of the predicted IoU.

Source: "Segment Anything" (https://arxiv.org/abs/2304.02643, appendix A, "Losses"): focal and dice loss at 20:1 for the
masks, plus the mean squared error between the predicted IoU and the true IoU of the thresholded mask, with weight 1.
Each function returns one number for every prompt and output `(B, M)`; `sam_edge.prompting.mask_choice` decides which of
them count.

RITM's normalized focal loss is an alternative that learns faster from little data. Its weights are divided by their
sum, so the gradient does not vanish when most pixels are easy. The cost: its value hardly falls during training.

All functions take mask logits `(B, M, h, w)`, targets `(B, h, w)` of the same resolution (bool, or numbers from 0 to 1
where a coarse pixel is partly inside), and optionally `valid`, `(B, h, w)` or `(1, h, w)`, true where the frame shows
photo; padding does not count. They compute in float32 at any precision of the logits, because bfloat16 cannot represent
a sum over 65,536 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_edge_runtime.bundle.contract import MASK_THRESHOLD
from sam_edge_runtime.errors import UsageError

DICE_SMOOTHING = 1.0  # as in DETR (arXiv 2005.12872), whose losses SAM uses: the loss of two empty masks is 0
BOUNDARY = 2  # pixels of a low-resolution mask
_TINY = 1e-12  # avoids a division by zero where every pixel is exactly right


@dataclass(frozen=True)
class LossRecipe:
    """Form and weights of the losses.

    Attributes:
        focal: a key of `FOCAL_LOSSES`.
        alpha: weight of foreground pixels, 0 to 1; background pixels have 1 - alpha.
        gamma: focusing exponent: the larger, the less easy pixels count; 0, or at least 1.
        focal_weight: factor of the focal loss.
        dice_weight: factor of the dice loss.
        iou_weight: factor of the IoU head's loss.
        boundary_weight: what pixels near the target's outline count more than others (`boundary_weights`); 0 for the
            same.

    Raises:
        UsageError: an unknown form, or a number out of range.
    """

    focal: str = "focal"
    alpha: float = 0.25
    gamma: float = 2.0
    focal_weight: float = 20.0
    dice_weight: float = 1.0
    iou_weight: float = 1.0
    boundary_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.focal not in FOCAL_LOSSES:
            raise UsageError(f"focal loss '{self.focal}' is unknown; choose one of {', '.join(FOCAL_LOSSES)}")
        if not 0.0 <= self.alpha <= 1.0:
            raise UsageError(f"alpha {self.alpha:g} is out of range; choose a number from 0 to 1")
        if self.gamma != 0.0 and not self.gamma >= 1.0:  # between 0 and 1 the gradient of a perfect pixel is infinite
            raise UsageError(f"gamma {self.gamma:g} is not possible; choose 0, or at least 1")
        for name in ("focal_weight", "dice_weight", "iou_weight", "boundary_weight"):
            weight: float = getattr(self, name)
            if not 0.0 <= weight < float("inf"):
                raise UsageError(f"{name} {weight:g} is not possible; choose a finite number from 0 up")


def focal_loss(
    logits: Tensor, target: Tensor, valid: Tensor | None = None, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Cross-entropy weighted by each pixel's error (RetinaNet, https://arxiv.org/abs/1708.02002, section 3).

    A pixel's weight is `|target - probability| ** gamma`. Where the target is 0 or 1 this is the paper's
    `(1 - p_t) ** gamma`; between them it is zero at the right probability (https://arxiv.org/abs/2006.04388, equation
    5).

    Returns:
        `(B, M)`: mean over the valid pixels.

    Raises:
        UsageError: shapes do not fit together.
    """
    logits, target, weight = _prepared(logits, target, valid)
    pixels = _difficulty(logits, target, gamma) * _cross_entropy(logits, target, alpha)
    return _total(pixels * weight) / _total(weight).clamp(min=1.0)


def normalized_focal_loss(
    logits: Tensor, target: Tensor, valid: Tensor | None = None, *, alpha: float = 0.5, gamma: float = 2.0
) -> Tensor:
    """Focal loss divided by the sum of its pixels' weights.

    Source: RITM (https://arxiv.org/abs/2102.06583) and AdaptIS (https://arxiv.org/abs/1909.07829). As in RITM's own
    code (https://github.com/SamsungLabs/ritm_interactive_segmentation), the sum has no gradient, and alpha is 0.5.

    Returns:
        `(B, M)`: weighted mean over the valid pixels.

    Raises:
        UsageError: shapes do not fit together.
    """
    logits, target, weight = _prepared(logits, target, valid)
    difficulty = _difficulty(logits, target, gamma) * weight
    return _total(difficulty * _cross_entropy(logits, target, alpha)) / (_total(difficulty).detach() + _TINY)


def dice_loss(logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """One minus the Dice coefficient of probabilities and target, in DETR's smoothed form.

    Source: V-Net (https://arxiv.org/abs/1606.04797); DETR (https://arxiv.org/abs/2005.12872).

    Returns:
        `(B, M)` in 0..1; 0 where both are empty.

    Raises:
        UsageError: shapes do not fit together.
    """
    logits, target, weight = _prepared(logits, target, valid)
    probability = logits.sigmoid() * weight
    overlap = 2.0 * _total(probability * target)
    return 1.0 - (overlap + DICE_SMOOTHING) / (_total(probability) + _total(target * weight) + DICE_SMOOTHING)


# Forms of the focal loss, by their name in a `LossRecipe`.
FOCAL_LOSSES: dict[str, Callable[..., Tensor]] = {"focal": focal_loss, "normalized": normalized_focal_loss}

SAM = LossRecipe()
# SAM's factor 20 compensates for the small values of the focal loss. The normalized one is as large as a cross-entropy.
RITM = LossRecipe(focal="normalized", alpha=0.5, focal_weight=1.0)
RECIPES: dict[str, LossRecipe] = {"sam": SAM, "ritm": RITM}


def mask_losses(logits: Tensor, target: Tensor, valid: Tensor | None = None, recipe: LossRecipe = SAM) -> Tensor:
    """Focal plus dice loss, 20:1 in SAM's own recipe (arXiv 2304.02643, appendix A, "Losses").

    Args:
        logits: `(B, M, h, w)`.
        target: `(B, h, w)`, 0 to 1.
        valid: `(B, h, w)` or `(1, h, w)`, true where the frame shows photo; None for everywhere.
        recipe: form and weights.

    Returns:
        `(B, M)` float32.

    Raises:
        UsageError: shapes do not fit together.
    """
    if recipe.boundary_weight:
        valid = boundary_weights(target, valid, recipe.boundary_weight)
    focal = FOCAL_LOSSES[recipe.focal](logits, target, valid, alpha=recipe.alpha, gamma=recipe.gamma)
    return recipe.focal_weight * focal + recipe.dice_weight * dice_loss(logits, target, valid)


@torch.no_grad()
def boundary_weights(target: Tensor, valid: Tensor | None, extra: float) -> Tensor:
    """Weights of the pixels: 1 + `extra` near the target's outline, 1 elsewhere, 0 on padding.

    Near is within `BOUNDARY` pixels along both axes, on either side; boundary IoU (arXiv 2103.16562) has such a band.

    Args:
        target: `(B, h, w)`, 0 to 1.
        valid: `(B, h, w)` or `(1, h, w)`, true where the frame shows photo; None for everywhere.
        extra: at least 0.

    Returns:
        `(B, h, w)` float32.
    """
    inside = (target > 0.5).float().unsqueeze(1)
    side = 2 * BOUNDARY + 1
    grown, grown_outside = (F.max_pool2d(each, side, 1, BOUNDARY) for each in (inside, 1.0 - inside))
    weights = 1.0 + extra * (grown * grown_outside).squeeze(1)
    return weights if valid is None else weights * valid.float()


@torch.no_grad()
def mask_ious(logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """IoU of each thresholded mask with the target, without a gradient: what the IoU head should predict.

    A target between 0 and 1 counts as inside above one half.

    Returns:
        `(B, M)` float32 in 0..1; 1 where both are empty, as in `sam_edge_runtime.agreement.metrics.mask_iou`.

    Raises:
        UsageError: shapes do not fit together.
    """
    logits, target, weight = _prepared(logits, target, valid)
    inside, wanted = (logits > MASK_THRESHOLD) & (weight > 0), (target > 0.5) & (weight > 0)
    union = (inside | wanted).flatten(2).sum(-1)
    overlap = (inside & wanted).flatten(2).sum(-1)
    return torch.where(union > 0, overlap / union.clamp(min=1), 1.0)


def iou_losses(iou_predictions: Tensor, ious: Tensor) -> Tensor:
    """Squared error of the IoU head (arXiv 2304.02643, appendix A, "Losses").

    Args:
        iou_predictions: `(B, M)` from the decoder.
        ious: `(B, M)` from `mask_ious`.

    Returns:
        `(B, M)` float32.

    Raises:
        UsageError: the shapes differ.
    """
    if iou_predictions.shape != ious.shape:
        raise UsageError(
            f"IoU predictions {tuple(iou_predictions.shape)} and IoUs {tuple(ious.shape)} must have the same (B, M)"
        )
    return (iou_predictions.float() - ious).square()


def _prepared(logits: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Check shapes; return in float32: logits, target `(B, 1, h, w)`, weight `(B or 1, 1, h, w)`, 1 where valid."""
    if logits.ndim != 4 or target.shape != (len(logits), *logits.shape[2:]):
        raise UsageError(
            f"logits {tuple(logits.shape)} must be (B, M, h, w) and the target {tuple(target.shape)} (B, h, w) of the "
            "same B, h and w; resize the target, or upscale the logits"
        )
    if valid is None:
        valid = torch.ones_like(target[:1], dtype=torch.float32)
    elif valid.shape[1:] != target.shape[1:] or len(valid) not in {1, len(target)}:
        raise UsageError(
            f"valid {tuple(valid.shape)} must be (B, h, w) or (1, h, w), with the h and w of the target "
            f"{tuple(target.shape)}"
        )
    return logits.float(), target.float().unsqueeze(1), valid.float().unsqueeze(1)


def _difficulty(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Each pixel's weight `|target - probability| ** gamma`, `(B, M, h, w)`."""
    return (target - logits.sigmoid()).abs().pow(gamma)


def _cross_entropy(logits: Tensor, target: Tensor, alpha: float) -> Tensor:
    """Binary cross-entropy `(B, M, h, w)`; foreground has the weight alpha, background 1 - alpha."""
    entropy = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    return entropy * (alpha * target + (1.0 - alpha) * (1.0 - target))


def _total(pixels: Tensor) -> Tensor:
    """Sum over h and w: `(B, M, h, w)` to `(B, M)`."""
    return pixels.sum(dim=(2, 3))
