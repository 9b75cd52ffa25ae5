"""Rewritten normalizations: equal outputs, and weights that converters do not change."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sam_edge.model.layers import LayerNorm2d
from sam_edge.model.norms import ScaleFirstNorm, ScaleFirstNorm2d, fold_batch_norms, scale_first, without_batch_norms
from sam_edge.model.repvit import Downsample, RepViTBlock
from sam_edge.model.tiny_vit import TinyViTBlock
from sam_edge.quantization.artifacts import layer_names
from sam_edge.quantization.layers import LAYERS
from sam_edge.weights.seeded import seed_module
from sam_edge_exporters import Conversion, exporter_for
from sam_edge_quant import Plan, quantizer_for, recipe_named
from sam_edge_runtime.bundle.contract import GraphContract, TensorSpec
from sam_edge_runtime.bundle.targets import TARGETS
from tests.model.builders import BOUND, error, seeded_tensor

SHAPE = (1, 32, 14, 14)


@pytest.fixture
def block() -> TinyViTBlock:
    """Attention, a convolution and an MLP, with norms of another scale in each channel."""
    torch.manual_seed(0)
    block = TinyViTBlock(32, 2, 7).eval().requires_grad_(requires_grad=False)
    for name, tensor in block.state_dict().items():
        if "norm" in name or ".bn." in name:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return block


def test_folding_batch_norms_changes_no_output_and_no_layer_name(block):
    folded = copy.deepcopy(block)
    fold_batch_norms(folded)
    x = seeded_tensor("x", *SHAPE)
    assert error(folded(x), block(x)) <= 1e-6
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    names = [[name for name, module in net.named_modules() if isinstance(module, LAYERS)] for net in (block, folded)]
    assert names[0] == names[1]
    fold_batch_norms(folded)  # a second call changes nothing


@pytest.fixture
def branched() -> nn.Sequential:
    """RepViT's blocks with statistics as after training: another mean and deviation in each channel."""
    net = nn.Sequential(RepViTBlock(32, squeeze=True), Downsample(32, 48)).eval().requires_grad_(requires_grad=False)
    seed_module(net, 0)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_mean"):
            tensor.mul_(20)
    return net


def test_the_branches_of_repvit_become_one_convolution(branched):
    x = seeded_tensor("x", *SHAPE)
    expected = branched(x)
    folded = without_batch_norms(branched)
    assert error(folded(x), expected) <= 1e-6
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    convolutions = {
        name: (each.kernel_size, each.groups) for name, each in folded.named_modules() if isinstance(each, nn.Conv2d)
    }
    mixers = {name: each for name, each in convolutions.items() if "token_mixer" in name}
    assert mixers == dict.fromkeys(("0.token_mixer.conv.c", "1.pre_block.token_mixer.conv.c"), ((3, 3), 32))
    assert set(convolutions) < {name for name, each in branched.named_modules() if isinstance(each, nn.Conv2d)}
    assert torch.equal(branched(x), expected)  # it stays as it is
    assert any(isinstance(module, nn.BatchNorm2d) for module in branched.modules())


def test_folding_in_place_joins_branches_too_and_nothing_is_left_for_a_second_time(branched):
    folded, again = copy.deepcopy(branched), copy.deepcopy(branched)
    for module in (folded, again, again):
        fold_batch_norms(module)
    x = seeded_tensor("x", *SHAPE)
    expected = without_batch_norms(branched)
    for found in (folded, again, without_batch_norms(folded)):
        assert torch.equal(found(x), expected(x))
        assert list(found.state_dict()) == list(expected.state_dict())


@pytest.mark.parametrize("norm", [nn.LayerNorm(32), LayerNorm2d(32)])
def test_a_norm_that_scales_first_equals_the_plain_one(norm):
    plain = nn.Sequential(norm).eval().requires_grad_(requires_grad=False)
    norm.weight.copy_(torch.linspace(-2.0, 3.0, 32))
    norm.bias.copy_(torch.linspace(1.0, -1.0, 32))
    x = seeded_tensor("x", 2, 32, 32, 32) * 20 + 50
    rewritten = scale_first(plain)
    assert error(rewritten(x), plain(x)) <= BOUND
    assert isinstance(rewritten[0], ScaleFirstNorm | ScaleFirstNorm2d)
    assert plain[0] is norm
    assert rewritten[0].weight is norm.weight


@pytest.mark.parametrize("target", TARGETS)
def test_every_layer_is_found_by_its_weights_in_every_artifact(block, target, tmp_path):
    """Converters fold neighbouring norms into weights; a quantizer would not recognize the changed weights."""
    fold_batch_norms(block)
    report = quantized_report(scale_first(block) if TARGETS[target].scale_first else block, target, tmp_path)
    assert report["layers"] == dict.fromkeys(layer_names(block).values(), "w8")
    assert report["unknown"] == []


def test_litert_s_converter_changes_a_weight_beside_a_plain_norm(block, tmp_path):
    """The reason for the rewrite. When this test fails, the rewrite is no longer needed."""
    fold_batch_norms(block)
    assert "attn.qkv" not in quantized_report(block, "tflite", tmp_path)["layers"]


def quantized_report(block: nn.Module, target: str, folder: Path) -> dict[str, Any]:
    """The quantizer's report on a block with INT8 weights."""
    exporter, suffix = exporter_for(target), TARGETS[target].suffix
    source = folder / f"block{suffix}"
    contract = GraphContract((TensorSpec("x", SHAPE, ""),), (TensorSpec("y", SHAPE, ""),))
    exporter.export(block, contract, source, Conversion())
    plan = Plan(recipe_named("w8"), layer_names(block))
    return quantizer_for(target).quantize(source, folder / f"w8{suffix}", plan, {})
