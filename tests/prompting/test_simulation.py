"""Simulated prompts: their places, their frequencies, and that a seed determines them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sam_edge.prompting.simulation import (
    PromptStep,
    TrainingPrompts,
    error_points,
    first_prompts,
    jittered_boxes,
    next_prompts,
    schedule,
    tight_boxes,
)
from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.errors import UsageError

SIDE = 256
CELLS = 64  # S/4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rectangle(x0: int, y0: int, x1: int, y1: int, cells: int = CELLS) -> Tensor:
    """`(1, cells, cells)`, x1 and y1 excluded."""
    mask = torch.zeros(1, cells, cells, dtype=torch.bool)
    mask[:, y0:y1, x0:x1] = True
    return mask


def logits_of(mask: Tensor, size: float = 5.0) -> Tensor:
    return ((mask.float() * 2 - 1) * size).unsqueeze(1)


def cells_of(coords: Tensor, cells: int = CELLS, side: int = SIDE) -> Tensor:
    """The mask pixels whose centres the frame coordinates are."""
    stride = side / cells
    found = (coords - (stride - 1) / 2) / stride
    assert torch.equal(found, found.round())
    return found.long()


# The schedule -------------------------------------------------------------------------------------------------------


def test_a_schedule_has_eleven_steps_of_which_two_add_no_point_one_of_them_the_last():
    places = Counter()
    for seed in range(1000):
        steps = schedule(seeded(seed))
        assert len(steps) == 11
        assert Counter(steps) == {PromptStep.FIRST: 1, PromptStep.POINT: 8, PromptStep.REFINE: 2}
        assert steps[0] is PromptStep.FIRST
        assert steps[-1] is PromptStep.REFINE
        places[steps.index(PromptStep.REFINE)] += 1
    assert set(places) == {2, 3, 4, 5, 6, 7, 8}  # between two sampled points
    assert max(places.values()) < 2 * min(places.values())


def test_the_seed_determines_the_schedule():
    assert schedule(seeded(3)) == schedule(seeded(3))


@pytest.mark.parametrize(("points", "length"), [(1, 4), (2, 5), (3, 6)])
def test_schedules_can_be_shorter_but_need_a_point(points, length):
    steps = schedule(seeded(), points)
    assert len(steps) == length
    assert steps[1] is PromptStep.POINT
    with pytest.raises(UsageError, match="at least 1"):
        schedule(seeded(), 0)


# First prompts ------------------------------------------------------------------------------------------------------


def test_half_of_the_first_prompts_are_points_inside_and_half_are_boxes():
    b = 2000
    target = torch.cat([rectangle(5, 20, 9, 40), rectangle(30, 0, 64, 3)]).repeat(b // 2, 1, 1)
    prompts = first_prompts(target, SIDE, seeded())
    boxes = prompts.labels[:, 0] == Label.BOX_TOP_LEFT
    assert 0.45 < float(boxes.float().mean()) < 0.55
    assert prompts.labels[boxes].unique(dim=0).tolist() == [[2.0, 3.0]]
    assert prompts.labels[~boxes].unique(dim=0).tolist() == [[1.0, -1.0]]
    x, y = cells_of(prompts.coords[~boxes, 0]).T
    rows = torch.arange(b)[~boxes]
    assert bool(target[rows, y, x].all())
    first = rows % 2 == 0
    assert set(x[first].tolist()) == set(range(5, 9))  # anywhere in it
    assert set(y[first].tolist()) == set(range(20, 40))


def test_first_prompts_have_the_contract_s_form():
    prompts = first_prompts(rectangle(1, 1, 9, 9).repeat(3, 1, 1), SIDE, seeded())
    shapes = [tuple(tensor.shape) for tensor in prompts.decoder_inputs]
    assert shapes == [(3, 2, 2), (3, 2), (3, 1, 64, 64), (3,)]
    assert {tensor.dtype for tensor in prompts.decoder_inputs} == {torch.float32}
    assert float(prompts.has_mask_input.sum()) == 0
    assert len(prompts) == 3


def test_first_points_are_uniform_over_the_target():
    target = rectangle(10, 10, 12, 12) | rectangle(50, 60, 52, 61)
    prompts = first_prompts(target.repeat(12_000, 1, 1), SIDE, seeded())
    clicks = prompts.labels[:, 0] == Label.FOREGROUND
    counts = Counter(map(tuple, cells_of(prompts.coords[clicks, 0]).tolist()))
    assert len(counts) == 6
    assert all(850 < count < 1150 for count in counts.values())  # 1000 each, five standard deviations


def test_a_point_has_the_coordinates_of_its_pixel():
    """At full resolution. On a coarse pixel of four by four, those of its centre."""
    prompts = first_prompts(rectangle(200, 7, 201, 8, SIDE).repeat(20, 1, 1), SIDE, seeded())
    clicks = prompts.labels[:, 0] == Label.FOREGROUND
    assert prompts.coords[clicks, 0].unique(dim=0).tolist() == [[200.0, 7.0]]
    prompts = first_prompts(rectangle(50, 1, 51, 2).repeat(20, 1, 1), SIDE, seeded())
    clicks = prompts.labels[:, 0] == Label.FOREGROUND
    assert prompts.coords[clicks, 0].unique(dim=0).tolist() == [[201.5, 5.5]]


# Boxes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (rectangle(3, 5, 10, 6, SIDE), [3, 5, 9, 5]),
        (rectangle(7, 9, 8, 10, SIDE), [7, 9, 7, 9]),  # one pixel
        (rectangle(0, 0, SIDE, SIDE, SIDE), [0, 0, 255, 255]),
        (rectangle(255, 0, 256, 256, SIDE), [255, 0, 255, 255]),  # along the border
        (rectangle(3, 5, 10, 6), [12, 20, 39, 23]),  # a coarse pixel is four
        (rectangle(0, 0, 2, 2) | rectangle(60, 30, 61, 31), [0, 0, 243, 123]),  # two parts
    ],
)
def test_tight_boxes_include_the_last_pixel(mask, expected):
    assert tight_boxes(mask, SIDE).tolist() == [[float(value) for value in expected]]


@pytest.mark.parametrize("side", [256, 1024])
def test_jitter_deviates_by_a_tenth_of_the_side_and_is_bounded(side):
    unit, bound = side / 1024, 20 * side / 1024
    box = torch.tensor([[200.0, 300.0, 300.0, 800.0]]) * unit  # its width stays below the bound, its height does not
    moved = jittered_boxes(box.repeat(4000, 1), side, seeded()) - box
    assert float(moved.abs().max()) <= bound + 1e-4
    x_noise, y_noise = moved[:, [0, 2]], moved[:, [1, 3]]
    assert float(x_noise.std()) == pytest.approx(0.1 * (100 * unit + 1), rel=0.15)
    assert float(x_noise.mean()) == pytest.approx(0, abs=0.5 * unit)
    cut = (y_noise.abs() > bound - 1e-4).float().mean()  # beyond 0.4 standard deviations: 69 %
    assert float(cut) == pytest.approx(0.69, abs=0.03)


def test_jittered_boxes_stay_in_the_frame_with_ordered_corners():
    boxes = torch.tensor([[0.0, 0.0, 255.0, 255.0], [250.0, 0.0, 255.0, 3.0], [9.0, 9.0, 9.0, 9.0]])
    moved = jittered_boxes(boxes.repeat(500, 1), SIDE, seeded())
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 255
    assert bool((moved[:, :2] <= moved[:, 2:]).all())
    one_pixel = moved[2::3]
    assert float((one_pixel - 9).std()) == pytest.approx(0.1, rel=0.1)  # its side is 1, not 0


# Points from errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [256, 512])
def test_error_points_lie_in_the_error_and_have_its_label(side):
    b = 600
    generator = seeded(5)
    target = torch.rand(b, 16, 16, generator=generator) > 0.7
    logits = torch.randn(b, 1, 16, 16, generator=generator)
    coords, labels = error_points(logits, target, side, generator)
    x, y = cells_of(coords, 16, side).T
    rows = torch.arange(b)
    inside = logits[rows, 0, y, x] > 0
    assert bool((inside != target[rows, y, x]).all())
    assert torch.equal(labels, torch.where(inside, float(Label.BACKGROUND), float(Label.FOREGROUND)))
    assert set(labels.tolist()) == {0.0, 1.0}


def test_error_points_are_uniform_over_both_kinds_together():
    """Twelve pixels missing, four superfluous: three clicks in four are foreground."""
    target, found = rectangle(0, 0, 4, 4), rectangle(0, 3, 4, 5)
    _, labels = error_points(logits_of(found).repeat(4000, 1, 1, 1), target.repeat(4000, 1, 1), SIDE, seeded())
    assert float(labels.mean()) == pytest.approx(0.75, abs=0.03)


def test_a_mask_without_an_error_gets_an_empty_slot():
    """The other masks of the batch get a point."""
    target = torch.cat([rectangle(3, 3, 9, 9), rectangle(3, 3, 9, 9), rectangle(3, 3, 9, 9)])
    found = torch.cat([rectangle(3, 3, 9, 9), rectangle(3, 3, 9, 8), rectangle(3, 3, 9, 9)])
    coords, labels = error_points(logits_of(found), target, SIDE, seeded())
    assert labels.tolist() == [-2.0, 1.0, -2.0]
    assert coords[[0, 2]].tolist() == [[0.0, 0.0]] * 2


def test_no_point_falls_on_padding():
    target, found = rectangle(0, 0, 10, 10), rectangle(0, 0, 64, 64)
    valid = rectangle(0, 0, 64, 20)
    logits = logits_of(found).repeat(300, 1, 1, 1)
    coords, labels = error_points(logits, target.repeat(300, 1, 1), SIDE, seeded(), valid)
    assert int(cells_of(coords)[:, 1].max()) < 20
    assert set(labels.tolist()) == {0.0}
    _, labels = error_points(logits_of(found), target, SIDE, seeded(), target)
    assert labels.tolist() == [-2.0]  # wrong only on padding


def test_errors_at_the_corners_of_the_frame_are_found():
    for x, y in ((0, 0), (63, 0), (0, 63), (63, 63)):
        target = rectangle(x, y, x + 1, y + 1)
        coords, labels = error_points(logits_of(rectangle(0, 0, 0, 0)), target, SIDE, seeded())
        assert cells_of(coords).tolist() == [[x, y]]
        assert labels.tolist() == [1.0]


def test_logits_are_interpolated_to_a_finer_target():
    fine = rectangle(100, 100, 140, 140, SIDE)
    coarse = rectangle(25, 25, 35, 35)
    coords, labels = error_points(logits_of(coarse), fine | rectangle(200, 200, 201, 201, SIDE), SIDE, seeded())
    error = (
        torch.nn.functional.interpolate(logits_of(coarse), size=(SIDE, SIDE), mode="bilinear", align_corners=False) > 0
    )[:, 0] ^ fine
    corners = int(error.sum())  # interpolation rounds the square's corners off
    assert corners < 40
    assert coords[0].tolist() == coords[0].round().tolist()
    x, y = coords[0].long().tolist()
    assert (x, y) == (200, 200) or bool(error[0, y, x])
    assert labels.tolist() in ([0.0], [1.0])


# A session ----------------------------------------------------------------------------------------------------------


def session(seed: int) -> list[TrainingPrompts]:
    """Eleven steps of three prompts; the model's outputs are noise."""
    generator = seeded(seed)
    target = torch.cat([rectangle(2, 2, 20, 20), rectangle(40, 1, 64, 30), rectangle(7, 50, 8, 51)])
    history: list[TrainingPrompts] = []
    for step in schedule(generator):
        if step is PromptStep.FIRST:
            history.append(first_prompts(target, SIDE, generator))
        else:
            logits = torch.randn(3, 1, CELLS, CELLS, generator=generator)
            history.append(next_prompts(history[-1], step, logits, target, SIDE, generator))
    return history


def test_a_session_ends_with_ten_slots_and_keeps_earlier_prompts():
    history = session(0)
    assert history[-1].labels.shape == (3, 10)
    for before, after in pairwise(history):
        slots = before.labels.shape[1]
        assert torch.equal(after.labels[:, -slots:], before.labels)  # new points come first
        assert torch.equal(after.coords[:, -slots:], before.coords)
        assert after.has_mask_input.tolist() == [1.0] * 3
    ends = {tuple(row) for row in history[-1].labels[:, -2:].tolist()}
    assert ends <= {(1.0, -1.0), (2.0, 3.0)}
    assert set(history[-1].labels[:, :-2].flatten().tolist()) <= {0.0, 1.0}


def test_the_seed_determines_the_session():
    once, again, other = session(1), session(1), session(2)
    for a, b in zip(once, again, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.decoder_inputs, b.decoder_inputs, strict=True))
    assert not torch.equal(once[-1].coords, other[-1].coords)


def test_the_number_of_draws_does_not_depend_on_the_masks():
    states = []
    for found in (rectangle(3, 3, 9, 9), rectangle(0, 0, 64, 64)):
        generator = seeded()
        prompts = first_prompts(rectangle(3, 3, 9, 9), SIDE, generator)
        next_prompts(prompts, PromptStep.POINT, logits_of(found), rectangle(3, 3, 9, 9), SIDE, generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_a_refining_step_adds_only_the_mask_prompt():
    target = rectangle(3, 3, 9, 9)
    prompts = first_prompts(target, SIDE, seeded())
    logits = torch.randn(1, 1, CELLS, CELLS, generator=seeded(), requires_grad=True)
    refined = next_prompts(prompts, PromptStep.REFINE, logits, target, SIDE, seeded())
    assert torch.equal(refined.labels, prompts.labels)
    assert torch.equal(refined.coords, prompts.coords)
    assert torch.equal(refined.mask_input, logits)  # not thresholded
    assert not refined.mask_input.requires_grad
    assert refined.has_mask_input.tolist() == [1.0]
    assert prompts.has_mask_input.tolist() == [0.0]  # the earlier prompts are unchanged


# Refusals -----------------------------------------------------------------------------------------------------------


def test_an_empty_target_is_named():
    target = torch.cat([rectangle(0, 0, 1, 1), rectangle(0, 0, 0, 0)])
    with pytest.raises(UsageError, match="target 1 of 2 has no foreground"):
        first_prompts(target, SIDE, seeded())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(1, 64, 64), "bool masks"),
        (torch.zeros(64, 64, dtype=torch.bool), "bool masks"),
        (torch.zeros(1, 64, 32, dtype=torch.bool), "bool masks"),
        (torch.zeros(1, 512, 512, dtype=torch.bool), "finer than its frame"),
    ],
)
def test_targets_of_another_type_or_shape_are_refused(target, message):
    with pytest.raises(UsageError, match=message):
        first_prompts(target, SIDE, seeded())


def test_logits_and_valid_maps_of_another_shape_are_refused():
    target = rectangle(3, 3, 9, 9)
    prompts = first_prompts(target, SIDE, seeded())
    with pytest.raises(UsageError, match="first_prompts"):
        next_prompts(prompts, PromptStep.FIRST, logits_of(target), target, SIDE, seeded())
    with pytest.raises(UsageError, match="one low-resolution mask a prompt"):
        next_prompts(prompts, PromptStep.REFINE, torch.zeros(1, 4, CELLS, CELLS), target, SIDE, seeded())
    with pytest.raises(UsageError, match="one mask a prompt"):
        error_points(torch.zeros(1, 4, CELLS, CELLS), target, SIDE, seeded())
    with pytest.raises(UsageError, match="valid"):
        error_points(logits_of(target), target, SIDE, seeded(), torch.ones(1, CELLS, CELLS))
