"""nano: its size, its maps against plain numpy, and the contract that it shares with SAM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sam_edge.model import DecoderGraph, EncoderGraph, build_sam
from sam_edge.model.nano import SameConv
from sam_edge.model.nano_decoder import BOX_SOFTNESS, CLICK_WIDTHS, ELLIPSE_STEEPNESS
from sam_edge.weights.seeded import seed_module
from sam_edge_runtime.errors import UsageError
from tests.model.builders import gap, seeded_tensor

SIDE = 256
LOW = SIDE // 4


@pytest.fixture(scope="module")
def sam():
    nano = build_sam("nano")
    seed_module(nano, 0)
    nano.requires_grad_(requires_grad=False)
    nano.set_input_side(SIDE)
    return nano


@pytest.fixture(scope="module")
def decoder(sam):
    return DecoderGraph(sam).eval()


@pytest.fixture(scope="module")
def embeddings():
    return seeded_tensor("nano", 1, 256, SIDE // 16, SIDE // 16)


def no_mask(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(count, 1, LOW, LOW), torch.zeros(count)


@pytest.mark.parametrize(
    ("variant", "side", "most_parameters", "most_macs"), [("nano", 512, 3.5e6, 3e9), ("small", 768, 10e6, 12e9)]
)
def test_size_and_compute_are_bounded(variant, side, most_parameters, most_macs):
    sam = build_sam(variant).eval()
    assert sam.side == side
    assert sum(parameter.numel() for parameter in sam.parameters()) <= most_parameters
    low = side // 4
    click = (torch.full((1, 2, 2), 100.0), torch.tensor([[1.0, -1.0]]), torch.zeros(1, 1, low, low), torch.zeros(1))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        masks, iou = DecoderGraph(sam)(EncoderGraph(sam)(torch.zeros(1, 3, side, side)), *click)
    assert counter.get_total_flops() / 2 <= most_macs  # a multiply-add counts as two
    assert (masks.shape, iou.shape) == ((1, 4, low, low), (1, 4))


def test_small_with_nano_s_weights_is_nano_until_its_own_blocks_are_trained():
    nano, small = build_sam("nano"), build_sam("small")
    further, unknown = small.load_state_dict(nano.state_dict(), strict=False)
    assert not unknown
    assert {name.split(".")[1] for name in further} == {"mixing", "detail"}
    photo = seeded_tensor("photo", 1, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = nano.image_encoder(photo)
        assert torch.equal(small.image_encoder(photo), expected)
        for part in (small.image_encoder.mixing, small.image_encoder.detail):
            kept = {name: tensor.clone() for name, tensor in part.state_dict().items()}
            seed_module(part, 0)
            assert gap(small.image_encoder(photo), expected) > 1e-3
            part.load_state_dict(kept)
            assert torch.equal(small.image_encoder(photo), expected)


def test_strided_convolutions_pad_at_the_bottom_and_right_as_tensorflow_does():
    conv = SameConv(1, 1, 2)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(9.0).reshape(1, 1, 3, 3))
        conv.bias.zero_()
        found = conv(x)[0, 0].numpy()
    padded = np.pad(x[0, 0].numpy(), ((0, 1), (0, 1)))
    kernel = np.arange(9.0).reshape(3, 3)
    expected = [[(padded[2 * r : 2 * r + 3, 2 * c : 2 * c + 3] * kernel).sum() for c in range(2)] for r in range(2)]
    np.testing.assert_allclose(found, expected)


def test_rasterized_prompts_equal_the_formula_in_numpy(sam):
    coords = torch.tensor([[[40.0, 60.0], [100.5, 20.0], [30.0, 50.0], [200.0, 120.0], [9.0, 9.0]]])
    labels = torch.tensor([[1.0, 0.0, 2.0, 3.0, -2.0]])
    logits = seeded_tensor("logits", 1, 1, LOW, LOW)
    found = sam.prompt_encoder.rasterize(coords, labels, logits, torch.ones(1))[0].numpy()

    centres = (np.arange(LOW) + 0.5) * 4
    x, y = np.meshgrid(centres, centres)

    def gaussian(place, width):
        return np.exp(-((x - place[0] - 0.5) ** 2 + (y - place[1] - 0.5) ** 2) / (2 * width**2))

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    expected = [gaussian(place, width) for place in ((40, 60), (100.5, 20)) for width in CLICK_WIDTHS]
    x0, y0, x1, y1 = 30.5, 50.5, 200.5, 120.5
    edges = [(x - x0), (x1 - x), (y - y0), (y1 - y)]
    expected.append(np.prod([sigmoid(edge / BOX_SOFTNESS) for edge in edges], axis=0))
    u = np.clip((x - (x0 + x1) / 2) / ((x1 - x0) / 2), -4, 4)
    v = np.clip((y - (y0 + y1) / 2) / ((y1 - y0) / 2), -4, 4)
    expected.append(sigmoid(ELLIPSE_STEEPNESS * (1 - u**2 - v**2)))
    expected += [sigmoid(logits[0, 0].numpy()), np.ones_like(x)]
    np.testing.assert_allclose(found, np.stack(expected), atol=2e-5)


def test_empty_and_padding_slots_leave_the_maps_zero(sam):
    labels = torch.tensor([[-1.0, -2.0]])
    assert not sam.prompt_encoder.rasterize(torch.full((1, 2, 2), 50.0), labels, *no_mask(1)).any()


@pytest.mark.parametrize("label", [1.0, 0.0, -1.0])
def test_empty_slots_and_the_order_of_slots_change_nothing(label, decoder, embeddings):
    coords = torch.tensor([[[40.0, 60.0], [120.0, 200.0]]])
    labels = torch.tensor([[1.0, label]])
    masks, iou = decoder(embeddings, coords, labels, *no_mask(1))
    more = torch.cat([coords, torch.full((1, 3, 2), 77.0)], dim=1), torch.cat([labels, torch.full((1, 3), -2.0)], 1)
    for other in (more, (coords.flip(1), labels.flip(1))):
        other_masks, other_iou = decoder(embeddings, *other, *no_mask(1))
        assert gap(other_masks, masks) <= 1e-4 * float(masks.abs().max())
        assert gap(other_iou, iou) <= 1e-4


def test_prompts_of_a_batch_do_not_influence_each_other(decoder, embeddings):
    coords, labels = seeded_tensor("places", 3, 2, 2).mul(40).add(128), torch.tensor([[1.0, 0], [2, 3], [1, -1]])
    together, _ = decoder(embeddings, coords, labels, *no_mask(3))
    for index in range(3):
        row = slice(index, index + 1)
        alone, _ = decoder(embeddings, coords[row], labels[row], *no_mask(1))
        assert gap(alone, together[row]) <= 1e-4 * float(together.abs().max())


def test_one_embedding_for_each_prompt_equals_a_shared_one(decoder, embeddings):
    coords, labels = seeded_tensor("places", 2, 2, 2).mul(40).add(128), torch.tensor([[1.0, 0], [2, 3]])
    shared, _ = decoder(embeddings, coords, labels, *no_mask(2))
    own, _ = decoder(embeddings.expand(2, -1, -1, -1), coords, labels, *no_mask(2))
    assert gap(own, shared) <= 1e-4 * float(shared.abs().max())


def test_nano_s_side_can_be_changed_repeatedly_a_vit_s_once():
    nano, vit = build_sam("nano"), build_sam("vit_b")
    for side in (256, 384, 512, 256):
        nano.set_input_side(side)
        assert EncoderGraph(nano)(torch.zeros(1, 3, side, side)).shape == (1, 256, side // 16, side // 16)
    vit.set_input_side(256)
    with pytest.raises(UsageError, match="already changed"):
        vit.set_input_side(512)
