"""The graphs of a bundle in the form that its manifest names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sam_edge.model import build_sam, graphs_of
from sam_edge.model.ane.transformer import BC1STransformer
from sam_edge_runtime.contract import Layout
from tests.model.builders import BOUND, error, every_prompt, photo
from tests.runtime.standin import manifest

SIDE = 256


@pytest.fixture(scope="module")
def nano():
    torch.manual_seed(0)
    sam = build_sam("nano")
    sam.set_input_side(SIDE)
    return sam.requires_grad_(requires_grad=False)


def test_layout_and_form_are_those_of_the_manifest(nano):
    plain = replace(manifest(), layout=Layout.NHWC)
    encoder, decoder = graphs_of(nano, plain)
    assert (encoder.layout, decoder.layout) == (Layout.NHWC, Layout.NHWC)
    assert not any(isinstance(module, BC1STransformer) for module in decoder.modules())
    _, rewritten = graphs_of(nano, replace(plain, graph="ane"))
    assert any(isinstance(module, BC1STransformer) for module in rewritten.modules())


def test_both_forms_answer_alike(nano):
    answers = []
    for graph in ("plain", "ane"):
        encoder, decoder = graphs_of(nano, replace(manifest(), graph=graph))
        assert not encoder.training
        embeddings = encoder(photo(SIDE))
        answers.append((embeddings, *decoder(*every_prompt(nano))))
    for plain, rewritten in zip(*answers, strict=True):
        assert error(rewritten, plain) <= BOUND
