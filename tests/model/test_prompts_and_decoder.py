"""Prompt encoder and mask decoder as one graph against segment_anything's, and empty prompt slots."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from sam_edge.model import DecoderGraph, Sam
from sam_edge_runtime.bundle.contract import Label
from tests.model.builders import BOUND, NARROW, error, gap, sam_pair, seeded_tensor

Outputs = tuple[Tensor, Tensor]  # mask logits and IoU predictions


@dataclass(frozen=True)
class Prompt:
    """B prompts: `points` clicks each, a box or none, a mask or none."""

    prompts: int = 1
    points: int = 0
    box: bool = False
    mask: bool = False
    labels: tuple[int, ...] = field(default=(1, 0, 1, 1, 0))

    def tensors(self) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """Coordinates, labels, boxes and masks as the reference takes them; None for a kind that is not given."""
        b, n = self.prompts, self.points
        coords = seeded_tensor("coords", b, n, 2).mul(200).add(512).clamp(0, 1024) if n else None
        labels = torch.tensor(self.labels[:n], dtype=torch.float32).repeat(b, 1) if n else None
        corner = seeded_tensor("corner", b, 2).mul(100).add(300)
        boxes = torch.cat([corner, corner + 350.5], dim=1) if self.box else None
        masks = seeded_tensor("mask", b, 1, 256, 256).mul(5) if self.mask else None
        return coords, labels, boxes, masks


PROMPTS = {
    "one point": Prompt(points=1),
    "two points": Prompt(points=2),
    "five points": Prompt(points=5),
    "box": Prompt(box=True),
    "box and points": Prompt(points=3, box=True),
    "mask alone": Prompt(mask=True),
    "mask and point": Prompt(points=1, mask=True),
    "mask and box": Prompt(box=True, mask=True),
    "nothing at all": Prompt(),
    "three points, four prompts": Prompt(prompts=4, points=3),
    "box, three prompts": Prompt(prompts=3, box=True),
    "everything, two prompts": Prompt(prompts=2, points=2, box=True, mask=True),
}


def reference_outputs(sam: nn.Module, embeddings: Tensor, prompt: Prompt, multimask: bool | None = None) -> Outputs:
    """Masks and IoU predictions: all four, or those that the reference chooses for `multimask`."""
    coords, labels, boxes, masks = prompt.tensors()
    points = None if coords is None else (coords, labels)
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
    inputs = (embeddings, sam.prompt_encoder.get_dense_pe(), sparse, dense)
    return sam.mask_decoder.predict_masks(*inputs) if multimask is None else sam.mask_decoder(*inputs, multimask)


def slots(prompt: Prompt) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same prompts in the contract's slots: clicks, then box corners, or a -1 slot after clicks without a box."""
    coords, labels, boxes, masks = prompt.tensors()
    b = prompt.prompts
    coords = torch.zeros(b, 0, 2) if coords is None else coords
    labels = torch.zeros(b, 0) if labels is None else labels
    if boxes is not None:
        coords = torch.cat([coords, boxes.reshape(b, 2, 2)], dim=1)
        labels = torch.cat([labels, torch.tensor([[2.0, 3.0]]).repeat(b, 1)], dim=1)
    elif prompt.points:
        coords, labels = padded(coords, labels, 1, Label.PADDING)
    mask_input = torch.zeros(b, 1, 256, 256) if masks is None else masks
    return coords, labels, mask_input, torch.full((b,), float(masks is not None))


def padded(coords: Tensor, labels: Tensor, count: int, label: Label, place: float = 0.0) -> tuple[Tensor, Tensor]:
    """`count` more slots with that label after those in use."""
    b = len(coords)
    return (
        torch.cat([coords, torch.full((b, count, 2), place)], dim=1),
        torch.cat([labels, torch.full((b, count), float(label))], dim=1),
    )


@pytest.fixture(scope="module")
def pair() -> tuple[Sam, nn.Module]:
    return sam_pair(NARROW)


@pytest.fixture(scope="module")
def decoder(pair) -> DecoderGraph:
    return DecoderGraph(pair[0]).eval()


@pytest.fixture(scope="module")
def embeddings() -> Tensor:
    return seeded_tensor("embeddings", 1, 256, 64, 64)


# Parity -------------------------------------------------------------------------------------------------------------


def test_dense_positions_equal_the_reference(pair):
    ours, theirs = pair
    assert error(ours.prompt_encoder.dense_positions(), theirs.prompt_encoder.get_dense_pe()) <= BOUND


@torch.inference_mode()
@pytest.mark.parametrize("name", PROMPTS)
def test_masks_and_scores_equal_the_reference(pair, decoder, embeddings, name):
    prompt = PROMPTS[name]
    masks, iou = decoder(embeddings, *slots(prompt))
    their_masks, their_iou = reference_outputs(pair[1], embeddings, prompt)
    assert masks.shape == (prompt.prompts, 4, 256, 256)
    assert error(masks, their_masks) <= BOUND
    assert error(iou, their_iou) <= BOUND


@torch.inference_mode()
@pytest.mark.parametrize(("multimask", "chosen"), [(True, slice(1, 4)), (False, slice(0, 1))])
@pytest.mark.parametrize("name", ["one point", "everything, two prompts"])
def test_multimask_on_and_off_are_slices_of_the_four(pair, decoder, embeddings, name, multimask, chosen):
    masks, iou = decoder(embeddings, *slots(PROMPTS[name]))
    their_masks, their_iou = reference_outputs(pair[1], embeddings, PROMPTS[name], multimask)
    assert error(masks[:, chosen], their_masks) <= BOUND
    assert error(iou[:, chosen], their_iou) <= BOUND


@torch.inference_mode()
def test_in_one_batch_some_prompts_have_a_mask_and_others_none(decoder, embeddings):
    """In the reference all prompts of a batch have a mask or none has."""
    coords, labels, masks, _ = slots(Prompt(prompts=2, points=1, mask=True))
    together = decoder(embeddings, coords, labels, masks, torch.tensor([1.0, 0.0]))[0]
    with_mask = decoder(embeddings, coords[:1], labels[:1], masks[:1], torch.ones(1))[0]
    without = decoder(embeddings, coords[1:], labels[1:], torch.zeros(1, 1, 256, 256), torch.zeros(1))[0]
    assert error(together, torch.cat([with_mask, without])) <= BOUND


@torch.inference_mode()
@pytest.mark.parametrize("side", [256, 448])
def test_other_sides_equal_the_reference(side):
    ours, theirs = sam_pair(NARROW)
    ours.set_input_side(side)
    theirs.prompt_encoder.input_image_size = (side, side)
    theirs.prompt_encoder.image_embedding_size = (side // 16, side // 16)
    embeddings = seeded_tensor("embeddings", 1, 256, side // 16, side // 16)
    coords, labels = torch.tensor([[[20.0, 30.5], [200.0, 11.0]]]), torch.tensor([[1.0, 0.0]])
    masks, iou = DecoderGraph(ours)(
        embeddings,
        *padded(coords, labels, 1, Label.PADDING),
        torch.zeros(1, 1, side // 4, side // 4),
        torch.zeros(1),
    )
    sparse, dense = theirs.prompt_encoder(points=(coords, labels), boxes=None, masks=None)
    positions = theirs.prompt_encoder.get_dense_pe()
    their_masks, their_iou = theirs.mask_decoder.predict_masks(embeddings, positions, sparse, dense)
    assert error(masks, their_masks) <= BOUND
    assert error(iou, their_iou) <= BOUND


# Empty slots --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 2, 5, 11])
@pytest.mark.parametrize("name", ["one point", "box and points", "mask alone"])
def test_empty_slots_change_nothing(decoder, embeddings, name, count):
    coords, labels, mask, has_mask = slots(PROMPTS[name])
    masks, iou = decoder(embeddings, coords, labels, mask, has_mask)
    filled = padded(coords, labels, count, Label.EMPTY, place=321.0)  # the coordinates of an empty slot do not count
    more_masks, more_iou = decoder(embeddings, *filled, mask, has_mask)
    assert gap(more_masks, masks) <= BOUND
    assert gap(more_iou, iou) <= BOUND


@torch.inference_mode()
def test_empty_slots_can_be_anywhere(decoder, embeddings):
    coords, labels, mask, has_mask = slots(PROMPTS["two points"])
    masks, _ = decoder(embeddings, coords, labels, mask, has_mask)
    spread_coords, spread_labels = torch.full((1, 7, 2), 99.0), torch.full((1, 7), float(Label.EMPTY))
    spread_coords[:, [1, 3, 6]], spread_labels[:, [1, 3, 6]] = coords, labels
    spread_masks, _ = decoder(embeddings, spread_coords, spread_labels, mask, has_mask)
    assert gap(spread_masks, masks) <= BOUND


@torch.inference_mode()
def test_prompts_of_different_lengths_share_a_batch(decoder, embeddings):
    """Each has the output that it has alone."""
    coords, labels, mask, has_mask = slots(Prompt(prompts=2, points=4))
    labels[1, 2:] = float(Label.EMPTY)
    together, _ = decoder(embeddings, coords, labels, mask, has_mask)
    long, _ = decoder(embeddings, coords[:1], labels[:1], mask[:1], has_mask[:1])
    short, _ = decoder(embeddings, coords[1:, :2], labels[1:, :2], mask[1:], has_mask[1:])
    assert gap(together, torch.cat([long, short])) <= BOUND


@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 5])
def test_filling_slots_with_the_reference_s_padding_changes_masks(decoder, embeddings, count):
    """Other exporters fill fixed slots with -1. "Not a point" is a token like any other, so attention sees it."""
    coords, labels, mask, has_mask = slots(PROMPTS["one point"])
    masks, _ = decoder(embeddings, coords, labels, mask, has_mask)
    more_masks, _ = decoder(embeddings, *padded(coords, labels, count, Label.PADDING), mask, has_mask)
    assert error(more_masks, masks) > 100 * BOUND
    assert bool(((more_masks > 0) != (masks > 0)).any())
