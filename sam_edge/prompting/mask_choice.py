"""Which of the four outputs are supervised, and which one goes on to the next prompt.

"Segment Anything" (arXiv 2304.02643), appendix A, "Making the model ambiguity-aware": one prompt may mean the whole,
a part or a subpart, so three masks are predicted (outputs 1..3) and only the one with the lowest loss is
learned from. With more prompts ambiguity is rare: then output 0 alone is learned from, so that it has a steady
gradient. Hence output 0 is never trained on a single click or a lone box, and should not be shown for one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam_edge_runtime.bundle.contract import FIRST_MULTIMASK, MASK_OUTPUTS, SINGLE_OUTPUT, Label
from sam_edge_runtime.errors import UsageError

_COUNTED = (Label.BACKGROUND, Label.FOREGROUND, Label.BOX_TOP_LEFT)  # one slot of each prompt; a box has two


@dataclass(frozen=True)
class Selection:
    """What B prompts' answers amount to.

    Attributes:
        loss: `(B)` what to minimize: mask loss plus weighted IoU loss.
        mask_loss: `(B)` of the one output that is learned from.
        iou_loss: `(B)` of the IoU head.
        learned: `(B)` int64, the output whose mask gets a gradient.
        chosen: `(B)` int64, the output that is fed back and from whose errors the next point is drawn.
    """

    loss: Tensor
    mask_loss: Tensor
    iou_loss: Tensor
    learned: Tensor
    chosen: Tensor


def is_ambiguous(labels: Tensor, has_mask_input: Tensor) -> Tensor:
    """Whether each prompt is a single one: one click, one box (its two corners) or one mask, and nothing beside it.

    Args:
        labels: `(B, N)` values of `Label`; empty and padding slots are no prompts.
        has_mask_input: `(B)`, 1 where a mask is given.

    Returns:
        `(B)` bool.
    """
    counted = torch.stack([labels == float(kind) for kind in _COUNTED])  # (3, B, N)
    prompts = counted.sum(dim=(0, 2)) + (has_mask_input > 0)
    return prompts <= 1


@torch.no_grad()
def choose(iou_predictions: Tensor, ambiguous: Tensor) -> Tensor:
    """The output that goes on: of three masks the one whose predicted IoU is highest, else the single one.

    Arxiv 2304.02643, appendix A, "Training algorithm": the model's own estimate decides, as it will without a target.

    Args:
        iou_predictions: `(B, 4)`.
        ambiguous: `(B)` bool.

    Returns:
        `(B)` int64; the lower output where two estimates are equal.
    """
    best = FIRST_MULTIMASK + iou_predictions[:, FIRST_MULTIMASK:].argmax(dim=1)
    return torch.where(ambiguous, best, SINGLE_OUTPUT)


def select(
    mask_losses: Tensor,
    iou_losses: Tensor,
    iou_predictions: Tensor,
    ambiguous: Tensor,
    *,
    every_iou: bool = True,
    iou_weight: float = 1.0,
) -> Selection:
    """Reduce the losses of four outputs to one a prompt (arXiv 2304.02643, appendix A).

    Ambiguous prompts learn from the lowest of outputs 1..3, others from output 0; gradients reach no other mask. The
    paper does not say which IoU predictions are supervised. The default is every output that may be shown, on average,
    as SAM 2 came to do (arXiv 2408.00714, appendix on training: the head also has to know bad masks); only so
    can the head rank them.

    Args:
        mask_losses: `(B, 4)` from `losses.mask_losses`.
        iou_losses: `(B, 4)` from `losses.iou_losses`.
        iou_predictions: `(B, 4)` from the decoder.
        ambiguous: `(B)` bool from `is_ambiguous`.
        every_iou: False supervises, of three, only the IoU of the mask that is learned from (what SAM 2's published
            training code takes SAM's own rule to be).
        iou_weight: factor of the IoU loss.

    Returns:
        The losses `(B)` and the outputs in question.

    Raises:
        UsageError: shapes that do not belong together.
    """
    wanted = (len(ambiguous), MASK_OUTPUTS)
    given = {"mask_losses": mask_losses, "iou_losses": iou_losses, "iou_predictions": iou_predictions}
    for name, values in given.items():
        if values.shape != wanted:
            raise UsageError(f"{name} of shape {tuple(values.shape)} do not fit {wanted[0]} prompts; give {wanted}")
    lowest = FIRST_MULTIMASK + mask_losses[:, FIRST_MULTIMASK:].argmin(dim=1)
    learned = torch.where(ambiguous, lowest, SINGLE_OUTPUT)
    mask_loss = _picked(mask_losses, learned)
    iou_loss = _picked(iou_losses, learned)
    if every_iou:
        iou_loss = torch.where(ambiguous, iou_losses[:, FIRST_MULTIMASK:].mean(dim=1), iou_loss)
    chosen = choose(iou_predictions, ambiguous)
    return Selection(mask_loss + iou_weight * iou_loss, mask_loss, iou_loss, learned, chosen)


def fed_back(low_res_masks: Tensor, chosen: Tensor) -> Tensor:
    """The logits that the next step gets as mask prompt, not thresholded (appendix A, "Training algorithm").

    Without a gradient: each step learns to answer its prompts, not to please the next one, and no step's graph has to
    be kept for the next (the paper does not say; RITM's iterative training, arXiv 2102.06583, does the same).

    Args:
        low_res_masks: `(B, 4, S/4, S/4)` logits.
        chosen: `(B)` int64.

    Returns:
        `(B, 1, S/4, S/4)` float32 logits.
    """
    rows = torch.arange(len(chosen), device=chosen.device)
    return low_res_masks.detach()[rows, chosen].unsqueeze(1).float()


def _picked(values: Tensor, output: Tensor) -> Tensor:
    """Of `(B, 4)` values, one a row: `(B)`."""
    return values.gather(1, output.unsqueeze(1)).squeeze(1)
