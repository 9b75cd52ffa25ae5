"""Encoders that project no padding of windows have the plain ones' outputs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sam_edge.model import EncoderGraph
from sam_edge.model.image_encoder import ImageEncoderViT
from sam_edge.model.lean import without_padded_cells
from sam_edge.model.lean.windows import UnpaddedBlock, UnpaddedTinyViTBlock
from sam_edge.model.sam import Sam
from sam_edge.model.tiny_vit import TinyViT
from tests.model.builders import BOUND, NARROW, error, seed, seeded_tensor


@pytest.fixture(scope="module", params=["vit", "pruned", "tiny_vit"])
def plain(request):
    pruned = replace(NARROW, attention_widths=(24, 16), mlp_widths=(40, 30))
    vits = {"vit": NARROW, "pruned": pruned}
    sam = Sam(ImageEncoderViT(vits[request.param]) if request.param in vits else TinyViT())
    seed(sam)
    return EncoderGraph(sam.requires_grad_(requires_grad=False)).eval()


@torch.inference_mode()
@pytest.mark.parametrize("size", [(256, 256), (160, 256), (224, 448)])  # the last fits windows exactly
def test_outputs_equal_those_of_the_plain_encoder(plain, size):
    image = (seeded_tensor("image", 1, 3, *size) * 60 + 120).clamp(0, 255)
    assert error(without_padded_cells(plain)(image), plain(image)) <= BOUND


def test_every_windowed_block_is_replaced_and_weights_are_shared(plain):
    unpadded = without_padded_cells(plain)
    kinds = [type(module) for module in unpadded.modules()]
    assert (kinds.count(UnpaddedBlock), kinds.count(UnpaddedTinyViTBlock)) in {(1, 0), (0, 10)}
    shared = {id(each) for each in plain.parameters()}
    assert {name.rsplit(".", 2)[1:][-1] for name, each in unpadded.named_parameters() if id(each) not in shared} == {
        "bias"
    }


@torch.inference_mode()
def test_only_the_cells_of_the_map_are_projected(plain):
    seen = []
    unpadded = without_padded_cells(plain)
    for module in unpadded.modules():
        if isinstance(module, UnpaddedBlock | UnpaddedTinyViTBlock):
            for layer in (module.attn.qkv, module.attn.proj):
                layer.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape[1:3]))
    unpadded(torch.zeros(1, 3, 160, 256))
    assert set(seen) <= {(40, 64), (20, 32), (10, 16)}
    assert seen
