"""Rewritten encoders of SAM 2.1 and EdgeTAM have the plain ones' outputs, and compute what they are meant to."""

from __future__ import annotations

import pytest
import torch
from onnxruntime import InferenceSession
from torch import nn

from sam_edge.model import EncoderGraph
from sam_edge.model.feature_pyramid import Lateral, PyramidImageEncoder
from sam_edge.model.hiera import Hiera, HieraBlock, HieraConfig, MaxPool
from sam_edge.model.lean import hiera as lean_hiera
from sam_edge.model.lean import (
    with_merged_projection,
    with_parts,
    with_positions_for,
    without_padded_cells,
)
from sam_edge.model.lean.hiera import CellLateral, PairwiseMaxPool, PartwiseHieraEncoder, PartwiseMlp
from sam_edge.model.lean.windows import UnpaddedHieraBlock
from sam_edge.model.norms import without_batch_norms
from sam_edge.model.repvit import RepViT
from sam_edge.model.sam import Sam
from sam_edge.model.sam2_mask_decoder import SAM2MaskDecoder
from sam_edge.quantization.artifacts import layer_names
from sam_edge_exporters import Conversion, exporter_for
from sam_edge_quant import Plan, calibrate, fingerprint, quantizer_for, recipe_named
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.bundle.contract import FrameSize, encoder_contract
from sam_edge_runtime.bundle.conventions import SAM_2
from tests.model.builders import error, seed, seeded_tensor

# One head and several, pooling from each size of window, a global block, and windows of 14 and 7 that do not fit.
CONFIG = HieraConfig(8, 1, (1, 2, 3, 2), (8, 4, 14, 7), (4,))
FRAMES = [FrameSize(256, 256), FrameSize(160, 256), FrameSize(256, 192)]
CLOSE = 5e-6  # relative to the tensor's largest value; rounding moves outputs by 1e-6
TRUNKS = {"hiera": lambda: Hiera(CONFIG), "repvit": RepViT}

pytestmark = pytest.mark.usefixtures("without_gradients")


def model(trunk: nn.Module) -> Sam:
    sam = Sam(PyramidImageEncoder(trunk), mask_decoder=SAM2MaskDecoder(), conventions=SAM_2).eval()
    seed(sam)
    return sam.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module", params=list(TRUNKS))
def plain(request):
    with torch.inference_mode():
        return EncoderGraph(model(TRUNKS[request.param]())).eval()


def image(frame: FrameSize) -> torch.Tensor:
    return (seeded_tensor("image", 1, 3, *frame) * 60 + 120).clamp(0, 255)


def rewritten(plain: EncoderGraph, frame: FrameSize) -> EncoderGraph:
    graph = without_batch_norms(with_positions_for(plain, frame))
    return without_padded_cells(with_parts(with_merged_projection(graph)))


@pytest.mark.parametrize("frame", FRAMES)
def test_outputs_equal_those_of_the_plain_encoder(plain, frame, monkeypatch):
    monkeypatch.setattr(lean_hiera, "PART", 1024)  # two rows of windows where the map has 64 columns
    monkeypatch.setattr(lean_hiera, "HIDDEN", 40000)  # 312 cells of the first stage's MLP, and a rest
    monkeypatch.setattr(lean_hiera, "LEAST_GAIN", 0)
    for found, expected in zip(rewritten(plain, frame)(image(frame)), plain(image(frame)), strict=True):
        assert found.shape == expected.shape
        assert expected.abs().max() > 0.01
        assert error(found, expected) <= CLOSE


@pytest.mark.parametrize("rewrite", [with_merged_projection, with_parts, without_padded_cells])
def test_each_rewrite_alone_keeps_the_outputs_and_the_plain_graph(plain, rewrite):
    expected = plain(image(FRAMES[1]))
    for graph in (rewrite(plain), plain):
        for found, wanted in zip(graph(image(FRAMES[1])), expected, strict=True):
            assert error(found, wanted) <= CLOSE


def test_every_block_of_hiera_is_computed_in_one_of_three_forms():
    lean = rewritten(EncoderGraph(model(Hiera(CONFIG))).eval(), FRAMES[0])
    encoder = lean.image_encoder
    assert isinstance(encoder, PartwiseHieraEncoder)
    forms = [(type(block) is UnpaddedHieraBlock, block.window) for block in encoder.trunk.blocks]
    within = [(False, 0)] * 4  # the first two stages, and the block that pools after them
    assert forms == [*within, (False, 0), (True, 14), (True, 14), (True, 7)]
    assert encoder.within == len(within)
    assert not any(isinstance(module, MaxPool) for module in lean.modules())


def test_only_the_cells_of_the_map_are_projected():
    frame, seen = FRAMES[1], set()
    lean = rewritten(EncoderGraph(model(Hiera(CONFIG))).eval(), frame)
    for block in lean.image_encoder.trunk.blocks:
        if isinstance(block, UnpaddedHieraBlock):
            for layer in (block.attn.qkv, block.attn.proj):
                layer.register_forward_hook(lambda layer, inputs, output: seen.add(tuple(inputs[0].shape[1:3])))
    lean(image(frame))
    assert seen == {(10, 16), (5, 8)}


def test_no_map_has_the_channels_of_the_pyramid_but_the_embedding_s(plain):
    seen = []
    lean = rewritten(plain, FRAMES[1])
    for convolution in lean.image_encoder.neck.modules():
        if isinstance(convolution, CellLateral | Lateral):
            convolution.register_forward_hook(lambda layer, inputs, output: seen.append(output.numel()))
    _, *features = lean(image(FRAMES[1]))
    assert sum(seen) == sum(each.numel() for each in features) + 256 * (10 * 16 + 5 * 8)


def test_a_quantizer_finds_the_merged_layers_by_their_weights(plain):
    sam = model(TRUNKS["hiera" if isinstance(plain.image_encoder.trunk, Hiera) else "repvit"]())
    names = layer_names(sam)
    neck = rewritten(EncoderGraph(sam).eval(), FRAMES[0]).image_encoder.neck
    layers = [module for module in neck.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert [names.get(fingerprint(layer.weight.numpy())) for layer in layers] == [
        "image_encoder.neck.convs.0.conv",
        "image_encoder.neck.convs.1.conv",
        "mask_decoder.conv_s1",
        "mask_decoder.conv_s0",
    ]


@pytest.mark.parametrize(("cells", "parts"), [(16384, 4), (4096, 1)])
def test_an_mlp_is_cut_only_where_its_hidden_channels_outweigh_its_weights(cells, parts):
    """96 channels at 6 MB: 4,096 cells fit. More copies of 384 channels' weights would take what they save."""
    channels = 96 if parts > 1 else 384
    block, seen = HieraBlock(channels, channels, 1, 8, pool=False).eval(), []
    mlp = PartwiseMlp(block)
    block.mlp.layers[0].register_forward_hook(lambda layer, inputs, output: seen.append(len(inputs[0])))
    x = seeded_tensor("x", cells, channels)
    assert error(mlp(x), block.mlp(block.norm2(x))) <= CLOSE
    assert seen[:-1] == [cells // parts] * parts


@pytest.mark.slow
def test_parts_share_the_weights_of_an_int8_layer(tmp_path, monkeypatch):
    """Each part has its own scale of the input, and so its own integer bias."""
    frame = FrameSize(256, 256)
    monkeypatch.setattr(lean_hiera, "PART", 1024)
    monkeypatch.setattr(lean_hiera, "HIDDEN", 40000)
    monkeypatch.setattr(lean_hiera, "LEAST_GAIN", 0)
    sam = model(Hiera(CONFIG))
    plain, target = EncoderGraph(sam).eval(), exporter_for("onnx")
    contract = encoder_contract(frame, 256, conventions=SAM_2)
    target.export(rewritten(plain, frame), contract, tmp_path / "encoder.onnx", Conversion())
    plan, quantizer = Plan(recipe_named("w8a8"), layer_names(sam)), quantizer_for("onnx")
    needed = quantizer.tensors(tmp_path / "encoder.onnx", plan)
    sample = {"image": image(frame).numpy()}
    ranges = calibrate(quantizer.observer(tmp_path / "encoder.onnx", needed), needed, [sample], plan.recipe.estimator)
    report = quantizer.quantize(tmp_path / "encoder.onnx", tmp_path / "w8a8.onnx", plan, ranges)
    assert len(report["unknown"]) == 2  # the products that make the position embeddings
    assert {"w8a8"} == set(report["layers"].values())
    found = InferenceSession(tmp_path / "w8a8.onnx", providers=["CPUExecutionProvider"]).run(None, sample)
    for ours, theirs in zip(found, plain(image(frame)), strict=True):
        assert snr_db(theirs.numpy(), ours) > 20


def test_pairwise_pooling_is_exact():
    x = seeded_tensor("x", 2, 6, 4, 5)
    assert torch.equal(PairwiseMaxPool()(x), MaxPool()(x))
