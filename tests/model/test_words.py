"""Words: the graph with text against the plain one, and its parts against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam_edge.model import DecoderGraph, build_sam
from sam_edge.model.graphs import PRESENT, WordDecoderGraph, decoder_graph
from sam_edge.model.words import VECTOR, WordMaps, enlargement, expected_iou
from sam_edge.weights.seeded import seed_module
from sam_edge.weights.words import empty_maps
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.errors import UsageError
from tests.model.builders import seeded_tensor

SIDE, LOW = 256, 64
FRAME = FrameSize(192, 256)


@pytest.fixture(scope="module")
def maps() -> WordMaps:
    maps = empty_maps()
    seed_module(maps, 1)
    return maps.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def graphs(maps):
    """The plain decoder and the one with text, in a frame that is no square."""
    plain = build_sam("nano")
    seed_module(plain, 0)
    plain.requires_grad_(requires_grad=False)
    plain.set_input_side(SIDE)
    graph = DecoderGraph(plain, frame=FRAME).eval()
    plain.give_words(maps)
    return graph, decoder_graph(plain, frame=FRAME).eval()


def inputs(count: int) -> tuple[torch.Tensor, ...]:
    """Embedding, and prompts of every kind: clicks, a box, a mask, nothing."""
    coords = torch.tensor([[[40.0, 60.0], [100.5, 20.0]], [[30.0, 20.0], [200.0, 120.0]], [[0.0, 0.0]] * 2])[:count]
    labels = torch.tensor([[1.0, 0.0], [2.0, 3.0], [-2.0, -2.0]])[:count]
    mask = seeded_tensor("mask", count, 1, *FRAME.cells)
    return seeded_tensor("e", 1, 256, *FRAME.grid), coords, labels, mask, torch.tensor([0.0, 1.0, 1.0])[:count]


@torch.inference_mode()
def test_prompts_without_text_have_the_plain_decoders_outputs_bit_for_bit(graphs):
    plain, texted = graphs
    assert isinstance(texted, WordDecoderGraph)
    given = inputs(3)
    masks, iou, present = texted(*given, seeded_tensor("v", 3, VECTOR), torch.zeros(3))
    for found, expected in zip((masks, iou), plain(*given), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(present, torch.full((3, 1), PRESENT))


@torch.inference_mode()
def test_text_alone_gives_the_words_map_four_times(graphs, maps):
    _, texted = graphs
    embedding, coords, labels, *_ = inputs(3)
    nothing = (coords[2:], labels[2:], torch.zeros(1, 1, *FRAME.cells), torch.zeros(1))
    vector = seeded_tensor("v", 1, VECTOR)
    masks, iou, present = texted(embedding, *nothing, vector, torch.ones(1))
    drawn, presence = maps(embedding, vector)
    torch.testing.assert_close(masks, drawn.expand(-1, 4, -1, -1))
    torch.testing.assert_close(present, presence)
    torch.testing.assert_close(iou, (expected_iou(drawn) * presence.sigmoid()).expand(-1, 4))


@torch.inference_mode()
def test_text_joins_clicks_and_a_given_mask_counts_instead_of_the_words_map(graphs, maps):
    plain, texted = graphs
    given = inputs(2)
    vectors = seeded_tensor("v", 2, VECTOR)
    masks, _, _ = texted(*given, vectors, torch.ones(2))
    drawn, _ = maps(given[0], vectors)
    mask = torch.cat([drawn[:1], given[3][1:]])  # the first prompt has no mask of its own
    expected, _ = plain(*given[:3], mask, torch.ones(2))
    torch.testing.assert_close(masks, expected)


@torch.inference_mode()
def test_a_word_in_a_batch_has_the_outputs_that_it_has_alone(maps):
    embedding, vectors = seeded_tensor("e", 1, 256, 12, 16), seeded_tensor("v", 3, VECTOR)
    together = maps(embedding, vectors)
    for row in range(3):
        for found, expected in zip(maps(embedding, vectors[row : row + 1]), together, strict=True):
            torch.testing.assert_close(found[0], expected[row])


def test_enlargement_is_torchs_bilinear_resize():
    x = seeded_tensor("x", 1, 1, 5, 7)
    found = enlargement(5, 4) @ x @ enlargement(7, 4).T
    torch.testing.assert_close(found, F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False))


def test_the_expected_iou_is_that_of_masks_drawn_from_the_probabilities():
    logits = 3.0 * seeded_tensor("l", 1, 1, 24, 24)
    draw = np.random.default_rng(0)
    p = logits.sigmoid().numpy()[0, 0]
    pairs = [(draw.random(p.shape) < p, draw.random(p.shape) < p) for _ in range(400)]
    drawn = np.mean([(a & b).sum() for a, b in pairs]) / np.mean([(a | b).sum() for a, b in pairs])
    assert abs(expected_iou(logits).item() - drawn) < 0.01
    assert expected_iou(torch.full((1, 1, 8, 8), -60.0)).item() == 0.0


def test_only_a_model_with_nanos_embedding_can_be_given_words(maps):
    with pytest.raises(UsageError, match="nano"):
        build_sam("edgetam").give_words(maps)


def test_training_and_evaluation_compute_the_same_features(maps):
    embedding = seeded_tensor("e", 2, 256, 6, 8)
    evaluated = maps.fine(embedding, maps.cells(embedding))
    try:
        trained = maps.train().fine(embedding, maps.cells(embedding))
    finally:
        maps.eval()
    torch.testing.assert_close(trained, evaluated, rtol=1e-4, atol=1e-5)
