"""Which of the four outputs are trained, and which one is fed back as the next mask prompt.

Source: "Segment Anything" (https://arxiv.org/abs/2304.02643, appendix A, "Making the model ambiguity-aware"). A single
prompt may mean the whole, a part or a subpart. So the model predicts three masks (outputs 1..3), and only the one with
the lowest loss is trained. With several prompts ambiguity is rare, and output 0 alone is trained, so that its gradient
is consistent. Hence output 0 is not trained on a single click or box, and should not be shown for one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam_edge_runtime.bundle.contract import FIRST_MULTIMASK, MASK_OUTPUTS, SINGLE_OUTPUT, Label
from sam_edge_runtime.errors import UsageError

_COUNTED = (Label.BACKGROUND, Label.FOREGROUND, Label.BOX_TOP_LEFT)  # one slot of each prompt; a box has two slots


@dataclass(frozen=True)
class Selection:
    """Losses of B prompts, and the outputs that they come from.

    Attributes:
        loss: `(B)` mask loss plus weighted IoU loss, which is minimized.
        mask_loss: `(B)` of the one output that is trained.
        iou_loss: `(B)` of the IoU head.
        learned: `(B)` int64, the output whose mask gets a gradient.
        chosen: `(B)` int64, the output that is fed back; the next point is drawn from its errors.
    """

    loss: Tensor
    mask_loss: Tensor
    iou_loss: Tensor
    learned: Tensor
    chosen: Tensor


def is_ambiguous(labels: Tensor, has_mask_input: Tensor) -> Tensor:
    """Whether each prompt is a single click, a single box or a single mask.

    Args:
        labels: `(B, N)` values of `Label`; empty and padding slots do not count.
        has_mask_input: `(B)` 1 where a mask is given, else 0.

    Returns:
        `(B)` bool.
    """
    counted = torch.stack([labels == float(kind) for kind in _COUNTED])  # (3, B, N)
    prompts = counted.sum(dim=(0, 2)) + (has_mask_input > 0)
    return prompts <= 1


@torch.no_grad()
def choose(iou_predictions: Tensor, ambiguous: Tensor) -> Tensor:
    """The output to feed back: for ambiguous prompts that of 1..3 with the highest predicted IoU, else output 0.

    Source: arXiv 2304.02643, appendix A, "Training algorithm". The predicted IoU decides, because the true one is
    unknown in use.

    Args:
        iou_predictions: `(B, 4)`.
        ambiguous: `(B)` bool.

    Returns:
        `(B)` int64; where two predictions are equal, the lower output.
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
    unshown_iou: bool = False,
    iou_weight: float = 1.0,
) -> Selection:
    """Reduce the losses of four outputs to one for each prompt (arXiv 2304.02643, appendix A).

    For ambiguous prompts the mask with the lowest loss of outputs 1..3 is trained, for others output 0; gradients reach
    no other mask. The paper does not say which IoU predictions are trained. The default is the mean over every output
    that may be shown, as in SAM 2 (arXiv 2408.00714, appendix on training): the head can rank masks only if it has
    learned to recognize bad ones.

    Args:
        mask_losses: `(B, 4)` from `losses.mask_losses`.
        iou_losses: `(B, 4)` from `losses.iou_losses`.
        iou_predictions: `(B, 4)` from the decoder.
        ambiguous: `(B)` bool from `is_ambiguous`.
        every_iou: False trains the IoU prediction of the trained mask only (SAM's own rule, according to SAM 2's
            published training code).
        unshown_iou: True trains the IoU predictions of all four outputs for every prompt, shown or not.
        iou_weight: factor of the IoU loss.

    Returns:
        The losses `(B)`, the trained outputs and the outputs to feed back.

    Raises:
        UsageError: shapes do not fit together.
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
    if unshown_iou:
        iou_loss = iou_losses.mean(dim=1)
    elif every_iou:
        iou_loss = torch.where(ambiguous, iou_losses[:, FIRST_MULTIMASK:].mean(dim=1), iou_loss)
    chosen = choose(iou_predictions, ambiguous)
    return Selection(mask_loss + iou_weight * iou_loss, mask_loss, iou_loss, learned, chosen)


def feedback_logits(low_res_masks: Tensor, chosen: Tensor) -> Tensor:
    """The chosen mask's logits, the next step's mask prompt; not thresholded (appendix A, "Training algorithm").

    They have no gradient: each step is trained on its own loss only, and no step's graph is kept for the next. The
    paper does not say this; RITM's iterative training (arXiv 2102.06583) does the same.

    Args:
        low_res_masks: `(B, 4, S/4, S/4)` logits.
        chosen: `(B)` int64.

    Returns:
        `(B, 1, S/4, S/4)` float32 logits.
    """
    rows = torch.arange(len(chosen), device=chosen.device)
    return low_res_masks.detach()[rows, chosen].unsqueeze(1).float()


def _picked(values: Tensor, output: Tensor) -> Tensor:
    """One value of each row of `(B, 4)`: `(B)`."""
    return values.gather(1, output.unsqueeze(1)).squeeze(1)
