"""The form of a bundle's graphs: plain or rewritten, as its manifest and target need."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from sam_edge.model import DecoderGraph, EncoderGraph, build_sam, graphs_of
from sam_edge.model.ane.transformer import BC1STransformer
from sam_edge.model.lean.attention import TokensReadImage
from sam_edge.model.lean.upscaling import CellwiseMaskDecoder, CellwiseNanoMaskDecoder
from sam_edge.model.prompt_encoder import SeparablePositions
from sam_edge.model.repvit import BranchedConv
from sam_edge_runtime.bundle.contract import FrameSize, Layout
from tests.model.builders import BOUND, error, every_prompt, photo, seeded_sam
from tests.runtime.standin import manifest

SIDE = 256


@pytest.fixture(scope="module")
def nano():
    torch.manual_seed(0)
    sam = build_sam("nano")
    sam.set_input_side(SIDE)
    return sam.requires_grad_(requires_grad=False)


@pytest.mark.parametrize(("target", "graph"), [("onnx", "plain"), ("tflite", "plain"), ("coreml", "ane")])
def test_graphs_are_named_in_every_form(nano, target, graph):
    graphs = graphs_of(nano, replace(manifest(1, 8), target=target, graph=graph))
    assert isinstance(graphs.encoder, EncoderGraph)
    assert isinstance(graphs.decoder, DecoderGraph)


def test_graphs_have_the_manifest_s_layout_and_form(nano):
    plain = replace(manifest(), layout=Layout.NHWC)
    encoder, decoder = graphs_of(nano, plain)
    assert (encoder.layout, decoder.layout) == (Layout.NHWC, Layout.NHWC)
    assert not any(isinstance(module, BC1STransformer) for module in decoder.modules())
    _, rewritten = graphs_of(nano, replace(plain, graph="ane"))
    assert any(isinstance(module, BC1STransformer) for module in rewritten.modules())


@pytest.mark.parametrize(
    ("target", "precision", "points", "attention", "cells"),
    [
        ("onnx", "fp32", None, True, True),
        ("onnx", "fp16", 8, True, True),
        ("onnx", "fp32", 16, False, True),  # with many slots, projecting the image is cheaper
        ("onnx", "w8a8", 8, True, True),
        ("tflite", "fp32", 8, False, False),  # nano's decoder gains nothing there
        ("coreml", "fp32", 8, False, False),
    ],
)
def test_a_decoder_is_lean_for_targets_where_that_is_faster(nano, target, precision, points, attention, cells):
    _, decoder = graphs_of(nano, replace(manifest(1, points), target=target, precision=precision))
    kinds = {type(module) for module in decoder.modules()}
    assert (TokensReadImage in kinds, CellwiseNanoMaskDecoder in kinds) == (attention, cells)


@pytest.mark.parametrize("precision", ["fp32", "w8a8"])
def test_tflite_has_sam_s_cellwise_masks_and_the_plain_attention(precision):
    torch.manual_seed(0)
    sam = build_sam("tiny_vit")
    _, decoder = graphs_of(sam, replace(manifest(1, 8), target="tflite", precision=precision))
    kinds = {type(module) for module in decoder.modules()}
    assert CellwiseMaskDecoder in kinds
    assert TokensReadImage not in kinds


@torch.inference_mode()
def test_edgetams_branches_are_joined_for_every_target():
    sam = seeded_sam("edgetam", SIDE)
    plain = EncoderGraph(sam).eval()
    expected = plain(photo(SIDE))
    for target in ("onnx", "tflite", "coreml"):
        encoder, _ = graphs_of(sam, replace(manifest(), target=target, conventions=sam.conventions))
        assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
        assert all(module.conv1 is None for module in encoder.modules() if isinstance(module, BranchedConv))
        for found, wanted in zip(encoder(photo(SIDE)), expected, strict=True):
            assert error(found, wanted) <= 1e-5
    assert any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())


@pytest.mark.parametrize("variant", ["nano", "tiny_vit"])
def test_positions_from_lookup_tables_equal_the_dense_positions(variant):
    torch.manual_seed(0)
    encoder = build_sam(variant).prompt_encoder
    tables = SeparablePositions(encoder, FrameSize.square(encoder.side).grid)
    assert error(tables(), encoder.dense_positions()) <= 1e-5
    assert sum(each.numel() for each in tables.buffers()) <= encoder.dense_positions().numel() / 16


def test_only_onnx_has_lookup_tables_of_positions(nano):
    """ONNX Runtime expands them once, when it loads a file. Other runtimes or converters would not."""
    for target in ("onnx", "tflite", "coreml"):
        _, decoder = graphs_of(nano, replace(manifest(), target=target))
        assert (decoder.tables is not None) == (target == "onnx")


def test_plain_and_ane_graphs_have_equal_outputs(nano):
    outputs = []
    for graph in ("plain", "ane"):
        encoder, decoder = graphs_of(nano, replace(manifest(), graph=graph))
        assert not encoder.training
        embeddings = encoder(photo(SIDE))
        outputs.append((embeddings, *decoder(*every_prompt(nano))))
    for plain, rewritten in zip(*outputs, strict=True):
        assert error(rewritten, plain) <= BOUND
