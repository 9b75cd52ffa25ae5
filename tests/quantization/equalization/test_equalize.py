"""Equalization and GPTQ of whole models: which layers belong together, and that fp32 outputs stay the same."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sam_edge.model import DecoderGraph, EncoderGraph, build_sam, fold_batch_norms
from sam_edge.model.feature_pyramid import PyramidImageEncoder
from sam_edge.model.hiera import Hiera, HieraConfig
from sam_edge.model.hq_mask_decoder import HQMaskDecoder
from sam_edge.model.image_encoder import ImageEncoderViT
from sam_edge.model.nano import SameConv
from sam_edge.model.sam import Sam
from sam_edge.model.sam2_mask_decoder import SAM2MaskDecoder
from sam_edge.model.tiny_vit import ConvNorm
from sam_edge.quantization.equalization.equalize import METHODS, equalize
from sam_edge.quantization.equalization.groups import Chain, Keys, Normed, groups_of
from sam_edge.quantization.equalization.observe import MOST_PATCHES, InputMoments, observe_layers, sam_runs
from sam_edge.quantization.gptq import round_weights
from sam_edge.quantization.layers import LAYERS, array, assign, input_patches, rows_of, set_rows, set_weight, weight_of
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.conventions import SAM_2, SAM_HQ
from sam_edge_runtime.errors import ExportError, UsageError
from tests.model.builders import BOUND, NARROW, error, every_prompt, photo, seed, seeded_tensor

SIDE = 256
NAMES = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input")
# How many of each kind of group a model has, counted by hand.
GROUPS = {
    # encoder: 7 stages and the mixing; decoder: 2 + 1 streams, 2 refinements, 5 heads of 2, 7 attentions, 2 MLPs
    "nano": (1, 8 + 3 + 2 + 10 + 7 + 2, 7),
    "small": (1, 8 + 3 + 2 + 10 + 7 + 2, 7),  # its further blocks belong to nano's streams
    "tiny_vit": (1 + 1 + 10 * 2, 10 + 7 + 2 + 10, 7),
    "vit": (1 + 1 + 2 * 2, 2 + 7 + 2 + 10, 7),
    # another head: the HQ token's, or the object score's
    "vit_hq": (1 + 1 + 2 * 2, 2 + 7 + 2 + 12, 7),
    # 5 blocks, of which 3 change their width; decoder: 2 finer maps, 7 attentions, 2 MLPs, 6 heads of 2
    "hiera": (1 + 5 * 2, 5 + 2 + 7 + 2 + 12, 7),
    "edgetam": (1, 2 + 7 + 2 + 12, 7),
}
HIERA = HieraConfig(16, 1, (1, 1, 2, 1), (8, 4, 14, 7), (3,))
SMALL = {
    "vit": lambda: Sam(ImageEncoderViT(NARROW)),
    "vit_hq": lambda: Sam(
        ImageEncoderViT(NARROW, early=True), mask_decoder=HQMaskDecoder(256, NARROW.dim), conventions=SAM_HQ
    ),
    "hiera": lambda: Sam(PyramidImageEncoder(Hiera(HIERA)), mask_decoder=SAM2MaskDecoder(), conventions=SAM_2),
}


def model(variant):
    sam = SMALL[variant]().eval() if variant in SMALL else build_sam(variant)
    seed(sam)
    sam.requires_grad_(requires_grad=False)
    sam.set_input_side(SIDE)
    return sam


def decoder_inputs(sam):
    """Every kind of prompt, and seeded features where the model has further ones."""
    features = (
        seeded_tensor(each.name, 1, each.channels, SIDE // each.stride, SIDE // each.stride)
        for each in sam.conventions.features
    )
    return *every_prompt(sam), *features


def calls(sam):
    names = [*NAMES, *(each.name for each in sam.conventions.features)]
    prompts = dict(zip(names, (each.numpy() for each in decoder_inputs(sam)), strict=True))
    return [{"image": photo(SIDE).numpy()}], [prompts]


@torch.inference_mode()
def outputs(sam):
    encoded = EncoderGraph(sam)(photo(SIDE))
    return *(encoded if isinstance(encoded, tuple) else (encoded,)), *DecoderGraph(sam)(*decoder_inputs(sam))


def test_layers_are_observed_in_the_frame_of_the_calls():
    """Positions of a frame are the first rows of the square's."""
    sam, frame = model("nano"), FrameSize(SIDE // 2, SIDE)
    (image,), (prompts,) = calls(sam)
    image = {"image": image["image"][:, :, : frame.height]}
    wide = {
        **prompts,
        "image_embeddings": prompts["image_embeddings"][:, :, : frame.height // 16],
        "mask_input": prompts["mask_input"][:, :, : frame.height // 4],
    }
    seen = []
    layer = sam.mask_decoder.transformer.layers[0].self_attn.q_proj
    observe_layers(sam, sam_runs(sam, [image], [wide], frame), {layer: seen.append})
    assert len(seen) == 1
    with pytest.raises(RuntimeError, match="must match"):
        observe_layers(sam, sam_runs(sam, [image], [wide]), {layer: seen.append})


def plant(sam, factor):
    """Multiply every eighth channel of every group by `factor`, and shift keys to centres of either sign."""
    for group in groups_of(sam):
        if isinstance(group, Keys):
            group.key.bias += 40.0 * torch.where(torch.arange(len(group.key.bias)) % 3 == 0, -1.0, 1.0)
            continue  # a constant added to all scores of a query is none after the softmax
        channels = weight_of(group.readers[0]).shape[1]
        wider = np.where(np.arange(channels) % 8 == 0, factor, 1.0)
        for layer in group.readers:
            set_weight(layer, weight_of(layer) / wider[:, None])
        for layer, rows in _written(group):
            every = np.ones(len(weight_of(layer)) if isinstance(layer, LAYERS) else channels)
            every[rows] = wider
            if isinstance(layer, LAYERS):
                set_weight(layer, weight_of(layer) * every[:, None, None])
            else:
                assign(layer.weight, array(layer.weight) * every)
            if layer.bias is not None:
                assign(layer.bias, array(layer.bias) * every)
        for layer in group.partners if isinstance(group, Chain) else ():
            set_weight(layer, weight_of(layer) / wider[:, None, None])
            assign(layer.bias, array(layer.bias) / wider)


def _written(group):
    if isinstance(group, Normed):
        return [(group.norm, slice(None))]
    return [(writer.layer, slice(None) if writer.rows is None else writer.rows) for writer in group.writers]


@pytest.mark.parametrize("variant", GROUPS)
def test_planted_outliers_are_removed_and_outputs_stay_the_same(variant):
    sam = model(variant)
    expected = outputs(sam)
    plant(sam, 20.0)
    for actual, expect in zip(outputs(sam), expected, strict=True):
        assert error(actual, expect) < BOUND  # so the groups are exact
    before = {name: tensor.clone() for name, tensor in sam.state_dict().items()}
    report = equalize(sam, *calls(sam))
    assert tuple(len(report[method]) for method in METHODS) == GROUPS[variant]
    assert any(not torch.equal(before[name], tensor) for name, tensor in sam.state_dict().items())
    for actual, expect in zip(outputs(sam), expected, strict=True):
        assert error(actual, expect) < BOUND
    for entry in report["smooth"] + report["cross_layer"]:
        assert entry["strength"] is not None
        assert entry["spread"][1] < 0.5 * entry["spread"][0], entry
        assert entry["noise_db"][1] < entry["noise_db"][0] - 3.0
    for entry in report["bimodal"]:
        assert entry["flipped"] > 0
        assert entry["span"][1] < 0.7 * entry["span"][0]


def rounded(tensor, scales):
    return (tensor / scales).round() * scales


def in_int8(sam):
    """Outputs with INT8 weights, a scale a channel, and INT8 inputs of every layer, a scale a tensor."""
    sam = copy.deepcopy(sam)
    for module in sam.modules():
        if isinstance(module, LAYERS):
            axis = int(isinstance(module, nn.ConvTranspose2d))
            others = [each for each in range(module.weight.ndim) if each != axis]
            module.weight.copy_(rounded(module.weight, module.weight.abs().amax(others, keepdim=True) / 127))
            module.register_forward_pre_hook(
                lambda _, inputs: (rounded(inputs[0], inputs[0].abs().max() / 127), *inputs[1:])
            )
    return outputs(sam)


@pytest.mark.parametrize("variant", ["vit_hq", "hiera"])
def test_less_is_lost_in_int8_after_equalization(variant):
    sam = model(variant)
    plant(sam, 20.0)
    expected, before = outputs(sam), in_int8(sam)
    equalize(sam, *calls(sam))
    for worse, better, expect in zip(before, in_int8(sam), expected, strict=True):
        assert (better - expect).square().mean() < 0.5 * (worse - expect).square().mean()


def test_only_the_named_methods_are_applied():
    sam = model("nano")
    plant(sam, 20.0)
    before = {name: tensor.clone() for name, tensor in sam.state_dict().items()}
    report = equalize(sam, *calls(sam), methods=["bimodal"])
    assert set(report) == {"bimodal"}
    changed = {name for name, tensor in sam.state_dict().items() if not torch.equal(before[name], tensor)}
    assert changed
    assert all(".q_proj." in name or ".k_proj." in name for name in changed)


def test_errors_are_one_line():
    sam = model("nano")
    images, prompts = calls(sam)
    with pytest.raises(UsageError, match=r"'smoothe'.*smooth, cross_layer, bimodal"):
        equalize(sam, images, prompts, methods=["smoothe"])
    with pytest.raises(UsageError, match="no calls"):
        equalize(sam, images, [])
    images[0]["image"][0, 0, 0, 0] = np.nan
    with pytest.raises(ExportError, match=r"image_encoder\.\S+ reads NaN"):
        equalize(sam, images, prompts)
    images[0]["image"][0, 0, 0, 0] = 0.0
    assert not any(module._forward_pre_hooks for module in sam.modules())  # all hooks are removed


# GPTQ ----------------------------------------------------------------------------------------------------------------

SHAPES = [
    (nn.Linear(6, 8), (2, 5, 6)),
    (nn.Conv2d(6, 8, 3, padding=1), (2, 6, 10, 10)),
    (nn.Conv2d(6, 6, 3, padding=1, groups=6), (2, 6, 10, 10)),
    (nn.Conv2d(6, 8, 2, stride=2), (2, 6, 10, 10)),
    (SameConv(6, 6, 2, groups=6), (2, 6, 10, 10)),
    (nn.ConvTranspose2d(6, 4, 2, stride=2), (2, 6, 10, 10)),
]


@pytest.mark.parametrize(("layer", "shape"), SHAPES)
def test_rows_times_patches_are_the_layer_s_outputs(layer, shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    computed = torch.from_numpy(rows_of(layer)).float() @ input_patches(layer, x).transpose(1, 2)
    expected = layer(x) - layer.bias.reshape(-1, *[1] * (2 if x.ndim == 4 else 0))
    assert computed.numel() == expected.numel()
    np.testing.assert_allclose(np.sort(computed.detach().flatten()), np.sort(expected.detach().flatten()), atol=1e-5)
    again = copy.deepcopy(layer)
    set_rows(again, rows_of(layer))
    set_weight(again, weight_of(again))
    assert torch.equal(again.weight, layer.weight)


def test_gptq_rounds_all_weights_and_beats_rounding_to_nearest():
    sam = model("nano")
    expected = outputs(sam)
    layers = {name: module for name, module in sam.named_modules() if isinstance(module, LAYERS)}
    levels = dict.fromkeys(layers, 7)
    nearest, rounded = copy.deepcopy(sam), copy.deepcopy(sam)
    for module in nearest.modules():
        if isinstance(module, LAYERS):
            axis = int(isinstance(module, nn.ConvTranspose2d))
            scales = module.weight.abs().amax(
                [each for each in range(module.weight.ndim) if each != axis], keepdim=True
            )
            module.weight.copy_((module.weight * 7 / scales).round() * scales / 7)
    report = round_weights(rounded, *calls(sam), levels)
    assert set(report) == set(layers)
    for name, layer in rounded.named_modules():
        if name in layers:
            codes = weight_of(layer).reshape(len(weight_of(layer)), -1)
            codes = codes / np.abs(codes).max(axis=1, keepdims=True) * 7
            np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
            assert report[name].snr_db > report[name].nearest_db
    for actual, worse, expect in zip(outputs(rounded), outputs(nearest), expected, strict=True):
        assert (actual - expect).square().mean() < 0.3 * (worse - expect).square().mean()


def test_a_layer_that_is_not_named_stays_the_same():
    sam = model("nano")
    before = {name: tensor.clone() for name, tensor in sam.state_dict().items()}
    report = round_weights(sam, *calls(sam), {"image_encoder.stem": 127})
    assert set(report) == {"image_encoder.stem"}
    changed = {name for name, tensor in sam.state_dict().items() if not torch.equal(before[name], tensor)}
    assert changed == {"image_encoder.stem.weight", "image_encoder.stem.bias"}


def test_a_folded_batch_norm_takes_the_shift_of_its_convolution():
    sam = model("tiny_vit")
    fold_batch_norms(sam)
    block = next(module for module in sam.modules() if isinstance(module, ConvNorm))
    name = next(name for name, module in sam.named_modules() if module is block)
    x = (photo(SIDE) - 120) / 60 + 3.0
    with torch.inference_mode():
        expected = block(x).mean(dim=(0, 2, 3))
        images = [{"image": (x * EncoderGraph(sam).std + EncoderGraph(sam).mean).numpy()}]
        round_weights(sam, images, calls(sam)[1], {f"{name}.c": 7})
        torch.testing.assert_close(block(x).mean(dim=(0, 2, 3)), expected, rtol=1e-4, atol=1e-4)


def test_moments_of_many_patches_are_a_covariance_around_its_own_mean():
    """Only evenly spaced patches are multiplied out; means are of all of them."""
    rng = np.random.default_rng(0)
    rows = (
        rng.normal(size=(3 * MOST_PATCHES, 4)) * [1.0, 1e-3, 10.0, 0.0]
        + np.linspace(-50, 50, 3 * MOST_PATCHES)[:, None]
    )
    moments = InputMoments()
    moments.add(torch.from_numpy(rows[None].astype(np.float32)))
    np.testing.assert_allclose(moments.mean[0], rows.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(moments.covariance[0], np.cov(rows[::3].T, bias=True), rtol=1e-3, atol=1e-2)
    assert np.linalg.eigvalsh(moments.covariance[0]).min() > -1e-3
