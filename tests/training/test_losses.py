"""Losses against the formulas, written out pixel by pixel."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_edge.training.losses import (
    FOCAL_LOSSES,
    RECIPES,
    LossRecipe,
    boundary_weights,
    dice_loss,
    focal_loss,
    iou_losses,
    mask_ious,
    mask_losses,
    normalized_focal_loss,
)
from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.errors import UsageError

LOSSES = {"focal": focal_loss, "normalized": normalized_focal_loss, "dice": dice_loss, "sum": mask_losses}


def case(b: int = 2, m: int = 3, h: int = 4, w: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(b, m, h, w, generator=generator)
    target = torch.rand(b, h, w, generator=generator) > 0.6
    valid = torch.ones(b, h, w, dtype=torch.bool)
    valid[0, 3:] = False
    valid[1, :, 4:] = False
    return logits, target, valid


def by_pixel(logits: Tensor, target: Tensor, valid: Tensor) -> list[tuple[float, float]]:
    """(probability, target) of every valid pixel of one mask."""
    return [
        (1 / (1 + math.exp(-float(logit))), float(t))
        for logit, t, v in zip(logits.flatten(), target.flatten(), valid.flatten(), strict=True)
        if v
    ]


def focal_terms(pixels: list[tuple[float, float]], alpha: float, gamma: float) -> tuple[float, float]:
    """Summed focal loss and summed weights."""
    total = weights = 0.0
    for p, t in pixels:
        p_t, alpha_t = (p, alpha) if t else (1 - p, 1 - alpha)
        weights += (1 - p_t) ** gamma
        total += -alpha_t * (1 - p_t) ** gamma * math.log(p_t)
    return total, weights


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 2.0), (0.9, 1.0), (0.25, 0.0)])
def test_focal_losses_equal_the_formulas(alpha, gamma):
    logits, target, valid = case()
    focal = focal_loss(logits, target, valid, alpha=alpha, gamma=gamma)
    normalized = normalized_focal_loss(logits, target, valid, alpha=alpha, gamma=gamma)
    assert focal.shape == normalized.shape == (2, 3)
    for b in range(2):
        for m in range(3):
            pixels = by_pixel(logits[b, m], target[b], valid[b])
            total, weights = focal_terms(pixels, alpha, gamma)
            assert float(focal[b, m]) == pytest.approx(total / len(pixels), rel=1e-5)
            assert float(normalized[b, m]) == pytest.approx(total / weights, rel=1e-5)


def test_dice_loss_equals_the_formula():
    logits, target, valid = case()
    found = dice_loss(logits, target, valid)
    for b in range(2):
        for m in range(3):
            pixels = by_pixel(logits[b, m], target[b], valid[b])
            overlap = sum(p * t for p, t in pixels)
            areas = sum(p + t for p, t in pixels)
            assert float(found[b, m]) == pytest.approx(1 - (2 * overlap + 1) / (areas + 1), rel=1e-5)


def test_losses_of_two_pixels_equal_the_computation_by_hand():
    """Probabilities 1/2 and 3/4, both foreground."""
    logits, target = torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 2), torch.ones(1, 1, 2)
    focal = 0.25 * (0.25 * math.log(2) + 0.0625 * math.log(4 / 3)) / 2
    dice = 1 - (2 * 1.25 + 1) / (1.25 + 2 + 1)
    assert float(focal_loss(logits, target)) == pytest.approx(focal, rel=1e-6)
    assert float(dice_loss(logits, target)) == pytest.approx(dice, rel=1e-6)
    assert float(mask_losses(logits, target)) == pytest.approx(20 * focal + dice, rel=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_mask_loss_sums_focal_and_dice_with_the_recipe_s_weights(name):
    recipe, (logits, target, valid) = RECIPES[name], case()
    focal = FOCAL_LOSSES[recipe.focal](logits, target, valid, alpha=recipe.alpha, gamma=2.0)
    expected = recipe.focal_weight * focal + recipe.dice_weight * dice_loss(logits, target, valid)
    assert torch.allclose(mask_losses(logits, target, valid, recipe), expected)


def test_sam_s_own_recipe_is_20_to_1_with_iou_weight_1():
    assert LossRecipe() == RECIPES["sam"] == LossRecipe("focal", 0.25, 2.0, 20.0, 1.0, 1.0)


@pytest.mark.parametrize("name", LOSSES)
def test_padding_changes_no_loss_and_gets_no_gradient(name):
    """With any content of the padding, the loss is that of the photo alone."""
    logits, target, _ = case()
    logits.requires_grad_()
    valid = torch.zeros(1, 4, 5, dtype=torch.bool)
    valid[:, :3, :4] = True
    found = LOSSES[name](logits, target, valid)
    other = torch.where(valid.unsqueeze(1), logits, 50.0)
    assert torch.equal(LOSSES[name](other, target | ~valid, valid), found)
    assert torch.allclose(found, LOSSES[name](logits[:, :, :3, :4], target[:, :3, :4]), atol=1e-6)
    found.sum().backward()
    padding = ~valid.expand(2, -1, -1)
    gradient = logits.grad.abs().sum(dim=1)
    assert float(gradient[padding].max()) == 0
    assert float(gradient[~padding].min()) > 0


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_finite_and_lowest_for_the_true_mask(name):
    target = torch.zeros(1, 4, 4)
    target[:, :2] = 1
    right = (target.unsqueeze(1) * 2 - 1) * 100.0
    logits = torch.cat([right, 0 * right, -right], dim=1).requires_grad_()
    losses = LOSSES[name](logits, target)[0]
    assert float(losses[0].detach()) == pytest.approx(0, abs=1e-6)
    assert bool((losses.diff() > 0).all())
    losses.sum().backward()
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("valid", [None, torch.zeros(1, 4, 4)], ids=["empty target", "nothing valid"])
def test_losses_of_empty_masks_are_finite(name, valid):
    assert bool(LOSSES[name](torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4), valid).isfinite().all())
    assert float(LOSSES[name](torch.full((1, 1, 4, 4), -100.0), torch.zeros(1, 4, 4), valid)) == pytest.approx(0)


@pytest.mark.parametrize("name", ["focal", "normalized"])
def test_the_loss_of_a_soft_target_is_lowest_at_its_value(name):
    target = torch.full((1, 2, 2), 0.3)
    logits = torch.logit(torch.tensor([0.2, 0.3, 0.4])).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    losses = focal_loss(logits, target)[0]
    assert float(losses[1]) == pytest.approx(0, abs=1e-6)
    assert float(losses[0]) > 1e-4
    assert float(losses[2]) > 1e-4
    logits = logits.clone().requires_grad_()
    LOSSES[name](logits, target).sum().backward()
    slope = logits.grad.sum(dim=(0, 2, 3))
    assert float(slope[0]) < 0 < float(slope[2])  # both move towards it


def test_the_normalized_loss_s_gradient_does_not_vanish():
    """For a ten times easier mask, the focal loss's gradient falls with the square, the normalized one's does not."""
    target = torch.ones(1, 8, 8)

    def slope(loss, probability: float) -> float:
        logits = torch.logit(torch.full((1, 1, 8, 8), probability)).requires_grad_()
        loss(logits, target).sum().backward()
        return float(logits.grad.abs().sum()) / (1 - probability)  # cross-entropy's own slope is 1 - p

    assert slope(focal_loss, 0.99) < 0.05 * slope(focal_loss, 0.9)
    # The sum of weights is a constant: alpha (2 p log(1 / p) + 1 - p) of 1 - p. With its gradient it would be alpha.
    expected = 0.5 * (2 * 0.9 * math.log(1 / 0.9) + 0.1) / 0.1
    assert slope(normalized_focal_loss, 0.9) == pytest.approx(expected, rel=1e-3)
    assert slope(normalized_focal_loss, 0.99) == pytest.approx(slope(normalized_focal_loss, 0.9), rel=0.1)


def test_low_precision_logits_are_summed_in_float32():
    target = torch.zeros(1, 256, 256)
    logits = torch.full((1, 1, 256, 256), -2.0)
    for loss in LOSSES.values():
        found = loss(logits.bfloat16(), target)
        assert found.dtype == torch.float32
        assert torch.allclose(found, loss(logits, target))


# IoU ----------------------------------------------------------------------------------------------------------------


def test_mask_ious_equal_the_runtime_s_metric():
    logits, target, valid = case()
    found = mask_ious(logits, target, valid)
    for b in range(2):
        for m in range(3):
            a, c = (mask.numpy() for mask in ((logits[b, m] > 0) & valid[b], target[b] & valid[b]))
            assert float(found[b, m]) == pytest.approx(mask_iou(a, c))


def test_mask_ious_equal_the_computation_by_hand_and_have_no_gradient():
    """One pixel of three is common; the third case is empty in both; a logit of zero is outside."""
    logits = torch.tensor([[[[1.0, 1.0, -1.0]], [[-1.0, -1.0, -1.0]]]], requires_grad=True)
    found = mask_ious(logits, torch.tensor([[[0.0, 1.0, 0.7]]]))
    assert found.tolist() == [[pytest.approx(1 / 3), 0.0]]
    assert not found.requires_grad
    assert mask_ious(torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 3)).tolist() == [[1.0]]


def test_iou_losses_are_squared_errors_with_a_gradient_for_the_head_only():
    logits = torch.randn(2, 4, 3, 3, requires_grad=True)
    said = torch.tensor([[0.5, 1.0, 0.0, 2.0]] * 2, requires_grad=True)
    ious = mask_ious(logits, torch.ones(2, 3, 3))
    losses = iou_losses(said, ious)
    assert np.allclose(losses.detach().numpy(), (said.detach().numpy() - ious.numpy()) ** 2)
    losses.sum().backward()
    assert said.grad is not None
    assert logits.grad is None


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"focal": "huber"}, "choose one of focal, normalized"),
        ({"alpha": 1.5}, "0 to 1"),
        ({"alpha": float("nan")}, "0 to 1"),
        ({"gamma": 0.5}, "at least 1"),
        ({"gamma": float("nan")}, "at least 1"),
        ({"focal_weight": -1.0}, "focal_weight -1"),
        ({"iou_weight": float("inf")}, "iou_weight inf"),
    ],
)
def test_impossible_recipes_are_refused(recipe, message):
    with pytest.raises(UsageError, match=message):
        LossRecipe(**recipe)


@pytest.mark.parametrize("name", [*LOSSES, "iou"])
def test_shapes_that_would_only_broadcast_are_refused(name):
    loss = mask_ious if name == "iou" else LOSSES[name]
    with pytest.raises(UsageError, match=r"\(B, h, w\)"):
        loss(torch.zeros(2, 3, 4, 4), torch.zeros(1, 4, 4))
    with pytest.raises(UsageError, match="valid"):
        loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4), torch.ones(2, 1, 4))
    with pytest.raises(UsageError, match="same"):
        iou_losses(torch.zeros(2, 4), torch.zeros(2, 3))


def test_pixels_near_the_outline_count_more():
    target = torch.zeros(1, 9, 11)
    target[0, :, 5:] = 1.0
    weights = boundary_weights(target, None, 3.0)
    assert weights[0, 4].tolist() == [1, 1, 1, 4, 4, 4, 4, 1, 1, 1, 1]  # two pixels on either side
    valid = torch.ones(1, 9, 11, dtype=torch.bool)
    valid[:, 6:] = False
    padded = boundary_weights(target, valid, 3.0)
    assert not padded[:, 6:].any()
    assert torch.equal(padded[:, :6], weights[:, :6])
    assert boundary_weights(torch.ones(1, 5, 5), None, 3.0).eq(1.0).all()  # no outline


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_loss_with_boundary_weight_equals_that_of_weighted_pixels(name):
    logits, target, valid = case(h=12, w=14)
    plain = RECIPES[name]
    weighted = replace(plain, boundary_weight=2.0)
    weights = boundary_weights(target.float(), valid, 2.0)
    torch.testing.assert_close(
        mask_losses(logits, target, valid, weighted), mask_losses(logits, target, weights, plain)
    )
    # Where every pixel is as wrong as any other, weights change nothing.
    flat = torch.zeros_like(logits)
    if plain.focal == "normalized":
        torch.testing.assert_close(
            normalized_focal_loss(flat, target, weights), normalized_focal_loss(flat, target, valid)
        )
    assert not torch.allclose(mask_losses(logits, target, valid, weighted), mask_losses(logits, target, valid, plain))
