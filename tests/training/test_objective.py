"""SAM's objective: one session against an explicit loop, and independence of how a step is divided."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sam_edge.model import build_sam
from sam_edge.prompting.simulation import PromptStep, TrainingPrompts
from sam_edge.training.batch import Batch
from sam_edge.training.losses import RITM, iou_losses, mask_ious, mask_losses
from sam_edge.training.objective import MaskObjective, SessionRecipe, seeded_generator, session_steps
from sam_edge.training.recipe import Phase
from sam_edge.weights.seeded import seed_module

SIDE = 256
PHASE = Phase(1, SIDE, interactions=3)


def batch(*numbers: int) -> Batch:
    """Photos whose content follows from their number: two masks for even ones, one for odd."""
    images, masks, valid = [], [], []
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        images.append(torch.rand(3, SIDE, SIDE, generator=generator) * 255)
        own = torch.zeros(2 - number % 2, SIDE, SIDE, dtype=torch.bool)
        for index in range(len(own)):
            own[index, 20 + 10 * index : 120 + number, 30 : 90 + 20 * index] = True
        masks.append(own)
        whole = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        whole[:200] = True
        valid.append(whole)
    return Batch(torch.stack(images), tuple(masks), torch.stack(valid), numbers, step=4)


@pytest.fixture
def objective() -> MaskObjective:
    sam = build_sam("nano")
    seed_module(sam, 1)
    made = MaskObjective(sam, RITM, SessionRecipe(points=8, single_always=True), seed=9)
    made.begin(PHASE)
    return made


def outputs_of(objective: MaskObjective, photos: Batch) -> list[tuple[TrainingPrompts, torch.Tensor]]:
    seen: list[tuple[TrainingPrompts, torch.Tensor]] = []
    objective.watcher = lambda batch, index, prompts, masks, chosen: seen.append((prompts, masks))
    objective(photos)
    return seen


def test_the_loss_equals_that_of_an_explicit_loop(objective):
    photos = batch(2, 3)
    losses = objective(photos)
    seen = outputs_of(objective, photos)
    assert len(seen) == 3
    targets, valid = photos.low_res_targets(), photos.low_res_valid()
    total = 0.0
    embeddings = objective.encoder(photos.images)[[0, 0, 1]]
    for prompts, masks in seen:
        again, iou = objective.decoder(embeddings, *prompts.decoder_inputs)
        torch.testing.assert_close(again, masks)
        by_output = mask_losses(again, targets, valid, RITM)
        by_iou = iou_losses(iou, mask_ious(again, targets, valid))
        each = []
        for row in range(3):
            single_prompt = int((prompts.labels[row] >= 0).sum()) - int((prompts.labels[row] == 3).sum()) <= 1
            single_prompt = single_prompt and not prompts.has_mask_input[row]
            single = by_output[row, 0] + by_iou[row, 0]
            three = by_output[row, 1:].min() + by_iou[row, 1:].mean()
            each.append(single + three if single_prompt else single)
        total += float(((each[0] + each[1]) / 2 + each[2]).detach()) / 2
    assert float(losses["loss"].detach()) == pytest.approx(total / 3, rel=1e-4)


def test_detail_unpacked_once_a_photo_gives_the_same_loss_and_gradients(objective):
    weights = dict(objective.student.named_parameters())

    def gradients() -> tuple[float, dict[str, torch.Tensor]]:
        objective.zero_grad()
        loss = objective(batch(2, 3))["loss"]
        loss.backward()
        return float(loss.detach()), {name: weight.grad.clone() for name, weight in weights.items()}

    shared, by_photo = gradients()
    calls = []
    objective.sharing.mask_decoder.unpack.register_forward_hook(lambda *call: calls.append(len(call[1][0])))
    objective(batch(2, 3))
    assert calls == [2]  # two photos, once, for three masks and three steps
    objective.sharing = None
    plain, by_mask = gradients()
    assert calls == [2, 3, 3, 3]
    assert shared == pytest.approx(plain, rel=1e-6)
    for name, wanted in by_mask.items():
        torch.testing.assert_close(by_photo[name], wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()) + 1e-7)


def test_a_divided_batch_gets_the_same_prompts_and_the_mean_loss(objective):
    together = outputs_of(objective, batch(2, 3))
    first, second = outputs_of(objective, batch(2)), outputs_of(objective, batch(3))
    for whole, left, right in zip(together, first, second, strict=True):
        for a, b, c in zip(whole[0].decoder_inputs[:2], left[0].decoder_inputs, right[0].decoder_inputs, strict=False):
            assert torch.equal(a, torch.cat([b, c]))
    parts = [float(objective(photos)["loss"].detach()) for photos in (batch(2), batch(3))]
    assert float(objective(batch(2, 3))["loss"].detach()) == pytest.approx(sum(parts) / 2, rel=1e-5)


def test_a_share_of_second_prompts_are_clicks_on_the_neighbour(objective):
    photos = batch(3, 5, 7)
    masks = tuple(torch.cat([own, own.flip(2)]) for own in photos.masks)  # the object, and another to the right
    photos = replace(photos, masks=masks)
    plain = [prompts for prompts, _ in outputs_of(objective, photos)]
    objective.session = replace(objective.session, neighbours=1.0)
    seen = [prompts for prompts, _ in outputs_of(objective, photos)]
    assert torch.equal(plain[0].coords, seen[0].coords)
    assert seen[1].labels[:, 0].tolist() == [0.0] * 6
    for own, (x, y) in zip(torch.cat(masks)[[1, 0, 3, 2, 5, 4]], seen[1].coords[:, 0].long().tolist(), strict=True):
        assert own[y, x]
    assert torch.equal(seen[2].coords[:, 1:], seen[1].coords)


def test_output_0_learns_from_a_single_prompt_only_with_single_always(objective):
    hypernetwork = objective.student.mask_decoder.output_hypernetworks_mlps[0].layers[0].weight
    for always in (False, True):
        objective.session = replace(objective.session, interactions=1, single_always=always)
        objective.zero_grad()
        objective(batch(2))["loss"].backward()
        learned = hypernetwork.grad is not None and bool(hypernetwork.grad.any())
        assert learned == always


def test_with_unshown_iou_the_iou_head_learns_outputs_that_are_not_shown(objective):
    last = objective.student.mask_decoder.iou_prediction_head.layers[-1].bias
    learned = {}
    for every in (False, True):
        objective.session = replace(objective.session, interactions=3, single_always=False, unshown_iou=every)
        objective.zero_grad()
        objective(batch(2))["loss"].backward()
        learned[every] = last.grad.clone()
    later = {}  # without the first prompt, after which outputs 1 to 3 may be shown
    for every in (False, True):
        objective.session = replace(objective.session, interactions=1, unshown_iou=every)
        objective.zero_grad()
        objective(batch(2))["loss"].backward()
        later[every] = learned[every] * 3 - last.grad
    assert not later[False][1:].abs().gt(1e-5).any()
    assert later[True].abs().gt(1e-4).all()


def test_a_session_depends_on_the_training_step_alone():
    recipe = SessionRecipe()
    assert session_steps(recipe, 0, 3) == session_steps(recipe, 0, 3)
    whole = {session_steps(recipe, 0, step) for step in range(40)}
    assert len(whole) > 3
    for steps in whole:
        assert (len(steps), steps[0], steps[-1], steps.count(PromptStep.POINT)) == (
            11,
            PromptStep.FIRST,
            PromptStep.REFINE,
            8,
        )
    assert len(session_steps(replace(recipe, interactions=4), 0, 3)) == 4


def test_generators_of_different_purposes_differ():
    from sam_edge.training.objective import Purpose

    draws = {
        int(torch.randint(2**62, (), generator=seeded_generator(s, p, n)))
        for s in (0, 1)
        for p in Purpose
        for n in (0, 1)
    }
    assert len(draws) == 4 * len(Purpose)


def test_the_loss_in_half_precision_is_close_to_fp32(objective):
    objective.session = replace(objective.session, interactions=1)
    full = float(objective(batch(2))["loss"].detach())
    with torch.autocast("cpu", torch.bfloat16):
        half = objective(batch(2))["loss"]
    half.backward()
    assert float(half.detach()) == pytest.approx(full, rel=0.05)


def test_rows_that_fill_up_a_batch_change_nothing(objective):
    photos = batch(2, 3)
    before = objective(photos)
    objective.begin(replace(PHASE, masks=4))
    objective.same_rows = True
    seen = outputs_of(objective, photos)
    assert all(len(masks) == 3 for _, masks in seen)
    after = objective(photos)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-5, atol=1e-6)
