"""Which output is trained and which is fed back."""

from __future__ import annotations

import pytest
import torch

from sam_edge.prompting.mask_choice import choose, feedback_logits, is_ambiguous, select
from sam_edge.training.losses import iou_losses, mask_ious, mask_losses
from sam_edge_runtime.errors import UsageError

# Output 0 always has the lowest loss and the highest prediction, which must not matter for an ambiguous prompt.
MASK_LOSSES = torch.tensor([[0.1, 3.0, 1.0, 2.0], [0.1, 1.0, 3.0, 2.0], [0.1, 3.0, 2.0, 1.0], [0.9, 0.1, 0.2, 0.3]])
IOU_LOSSES = torch.tensor([[9.0, 1.0, 2.0, 6.0], [9.0, 4.0, 5.0, 6.0], [9.0, 7.0, 8.0, 0.0], [0.5, 7.0, 8.0, 9.0]])
PREDICTED = torch.tensor([[0.99, 0.7, 0.6, 0.5], [0.99, 0.1, 0.2, 0.3], [0.99, 0.1, 0.3, 0.2], [0.0, 0.9, 0.9, 0.9]])
AMBIGUOUS = torch.tensor([True, True, True, False])


@pytest.mark.parametrize(
    ("labels", "mask", "expected"),
    [
        ([1, -1], 0, True),  # a click
        ([0, -1], 0, True),
        ([2, 3], 0, True),  # a box
        ([-2, 2, 3, -2], 0, True),
        ([1, 1, -1], 0, False),
        ([1, 0, -1], 0, False),
        ([1, 2, 3], 0, False),  # click and box
        ([1, -1], 1, False),  # click and mask
        ([2, 3], 1, False),
        ([-2, -2], 1, True),  # a mask alone
    ],
)
def test_a_single_prompt_is_ambiguous(labels, mask, expected):
    found = is_ambiguous(torch.tensor([labels], dtype=torch.float32), torch.tensor([float(mask)]))
    assert found.tolist() == [expected]


def test_ambiguous_prompts_train_the_lowest_of_three_others_output_0():
    found = select(MASK_LOSSES, IOU_LOSSES, PREDICTED, AMBIGUOUS)
    assert found.learned.tolist() == [2, 1, 3, 0]
    assert found.mask_loss.tolist() == pytest.approx([1.0, 1.0, 1.0, 0.9])


def test_the_fed_back_output_has_the_highest_prediction_not_the_lowest_loss():
    found = select(MASK_LOSSES, IOU_LOSSES, PREDICTED, AMBIGUOUS)
    assert found.chosen.tolist() == [1, 3, 2, 0]
    assert torch.equal(found.chosen, choose(PREDICTED, AMBIGUOUS))
    assert choose(torch.full((1, 4), 0.5), torch.tensor([True])).tolist() == [1]  # equal: the first


def test_the_iou_head_is_trained_on_every_output_that_may_be_shown():
    found = select(MASK_LOSSES, IOU_LOSSES, PREDICTED, AMBIGUOUS, iou_weight=2.0)
    assert found.iou_loss.tolist() == pytest.approx([3.0, 5.0, 5.0, 0.5])
    assert torch.allclose(found.loss, found.mask_loss + 2.0 * found.iou_loss)


def test_the_iou_head_can_be_trained_on_the_trained_output_only():
    found = select(MASK_LOSSES, IOU_LOSSES, PREDICTED, AMBIGUOUS, every_iou=False)
    assert found.iou_loss.tolist() == pytest.approx([2.0, 4.0, 0.0, 0.5])


@pytest.mark.parametrize("every_iou", [True, False])
def test_gradients_reach_only_the_trained_outputs(every_iou):
    """One mask of each prompt, and the IoU predictions that are trained."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 4, 8, 8, generator=generator, requires_grad=True)
    predicted = torch.rand(4, 4, generator=generator, requires_grad=True)
    target = torch.rand(4, 8, 8, generator=generator) > 0.5
    found = select(
        mask_losses(logits, target),
        iou_losses(predicted, mask_ious(logits, target)),
        predicted,
        AMBIGUOUS,
        every_iou=every_iou,
    )
    found.loss.sum().backward()
    masks = torch.zeros(4, 4, dtype=torch.bool)
    masks[torch.arange(4), found.learned] = True
    scores = masks.clone()
    if every_iou:
        scores[:3, 1:] = True
    assert torch.equal(logits.grad.abs().amax(dim=(2, 3)) > 0, masks)
    assert torch.equal(predicted.grad != 0, scores)


def test_fed_back_masks_are_the_chosen_logits_unchanged():
    logits = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2)).requires_grad_()
    found = feedback_logits(logits, torch.tensor([3, 0, 2]))
    assert found.shape == (3, 1, 8, 8)
    assert torch.equal(found[:, 0], torch.stack([logits[0, 3], logits[1, 0], logits[2, 2]]))
    assert not found.requires_grad
    assert feedback_logits(logits.bfloat16(), torch.tensor([3, 0, 2])).dtype == torch.float32


def test_losses_of_another_number_of_outputs_are_refused():
    with pytest.raises(UsageError, match=r"iou_losses .* give \(4, 4\)"):
        select(MASK_LOSSES, IOU_LOSSES[:, :3], PREDICTED, AMBIGUOUS)
