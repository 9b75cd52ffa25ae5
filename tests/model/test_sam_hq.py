"""SAM-HQ and Light-HQ: names of their checkpoints, outputs of their own code, and frames that are no squares.

`data/sam_hq_state_dicts.json` lists what the mask decoders of the official checkpoints hold beside SAM's tensors.
`data/sam_hq_outputs.npz` holds outputs of segment-anything-hq 0.3 in fp32 on a CPU, with weights seeded by name, for
standard normal numbers as the normalized photo: of features `[::16, ::9, ::9]`, of maps at stride 4 `[::28, ::28]`.
Light-HQ needs timm, which cannot be installed beside the CPU build of torch. transformers' SamHQModel is compared in
`tests/weights/test_hugging_face.py`.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_edge.model import DecoderGraph, EncoderGraph, build_sam
from sam_edge.model.ane.rewrite import REPLACEMENTS
from sam_edge.model.hq_mask_decoder import HQMaskDecoder
from sam_edge.model.image_encoder import ImageEncoderViT, RelativeAttention, ViTConfig
from sam_edge.model.lean import attention_is_cheaper, lean_rewrite
from sam_edge.model.replacement import replace_any
from sam_edge.model.sam import Sam, use_hq_token_only
from sam_edge.model.tiny_vit import TinyViT
from sam_edge.weights.catalogue import RELEASES
from sam_edge.weights.families import build_empty, shapes_of_variant
from sam_edge.weights.seeded import seed_module
from sam_edge_runtime.bundle.contract import FrameSize, Layout, encoder_contract
from sam_edge_runtime.bundle.conventions import SAM_HQ
from sam_edge_runtime.errors import UsageError
from tests.model.builders import BOUND, NARROW, error, seed, seeded_tensor

DATA = Path(__file__).parent / "data"
VARIANTS = ("sam_hq_vit_b", "sam_hq_vit_l", "sam_hq_vit_h", "light_hq")
SIDE = 256
WIDE, TALL = FrameSize(160, 256), FrameSize(256, 192)
FRAMES = (WIDE, TALL, FrameSize.square(SIDE))
# Two global blocks, of which the first counts.
DEEPER = ViTConfig(dim=64, depth=4, heads=2, global_blocks=(1, 3))

pytestmark = pytest.mark.usefixtures("without_gradients")


# The checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dicts_are_those_of_the_official_checkpoints(variant):
    table = json.loads((DATA / "sam_hq_state_dicts.json").read_text(encoding="utf-8"))[variant]
    expected = dict(shapes_of_variant(table["plain"]))
    expected |= {f"mask_decoder.{name}": tuple(shape) for name, shape in table["added"].items()}
    ours = build_empty(lambda: build_sam(variant))
    assert {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()} == expected
    assert sum(parameter.numel() for parameter in ours.parameters()) == RELEASES[variant].parameters


# The stored outputs -------------------------------------------------------------------------------------------------

# Points (x, y) with labels, and corners of a box, in pixels of a photo of 640 x 480, which are 1.6 of the frame's.
PROMPTS: dict[str, list[tuple[float, float, int]]] = {
    "point": [(320, 200, 1), (0, 0, -1)],
    "points": [(100, 50, 1), (500, 400, 0), (0, 0, -1)],
    "box": [(80, 60, 2), (420, 390, 3)],
    "box_point": [(250, 300, 0), (80, 60, 2), (420, 390, 3)],
    "mask": [(320, 200, 1), (0, 0, -1)],
}


def prompt_of(sam: Sam, name: str) -> tuple[Tensor, ...]:
    """Positions, sparse and dense prompt, and which slots are empty, as the mask decoder takes them."""
    slots = torch.tensor([PROMPTS[name]], dtype=torch.float32)
    mask = (4 * np.random.default_rng([0, 7]).standard_normal((1, 256, 256))).astype(np.float32)
    has_mask = torch.tensor([float(name == "mask")])
    sparse, dense = sam.prompt_encoder(slots[..., :2] * 1.6, slots[..., 2], torch.from_numpy(mask)[None], has_mask)
    return sam.prompt_encoder.dense_positions(), sparse, dense, torch.zeros(slots.shape[:2])


@pytest.mark.parametrize("variant", ["light_hq", pytest.param("sam_hq_vit_b", marks=pytest.mark.slow)])
def test_features_masks_and_scores_equal_the_stored_ones(variant):
    sam = build_sam(variant)
    seed_module(sam, 0)
    photo = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 1024, 1024)).astype(np.float32))
    embedding, early = sam.image_encoder(photo)
    decoder = sam.mask_decoder
    with np.load(DATA / "sam_hq_outputs.npz") as stored:
        channels = 2 * (early.shape[1] // 40)
        assert error(embedding[0, ::16, ::9, ::9], stored[f"{variant}.embedding"]) <= BOUND
        assert error(early[0, ::channels, ::9, ::9], stored[f"{variant}.early"]) <= BOUND
        _, features = decoder.projection()(embedding, early)
        assert error(features[0, ::4, ::28, ::28], stored[f"{variant}.hq_features"]) <= BOUND
        for name in PROMPTS:
            prompt = prompt_of(sam, name)
            of_sam, of_hq = stored[f"{variant}.{name}.masks"][:4], stored[f"{variant}.{name}.masks"][4:]
            decoder.hq_token_only = False
            masks, iou = decoder(embedding, features, *prompt)
            assert error(masks[0, :, ::28, ::28], of_sam + of_hq) <= BOUND
            assert error(iou[0], stored[f"{variant}.{name}.iou"]) <= BOUND
            decoder.hq_token_only = True
            masks, iou = decoder(embedding, features, *prompt)
            assert error(masks[0, :, ::28, ::28], of_hq.repeat(4, axis=0)) <= BOUND
            assert error(iou[0], stored[f"{variant}.{name}.iou"]) <= BOUND


# The encoders -------------------------------------------------------------------------------------------------------


def vit(*, early: bool) -> ImageEncoderViT:
    encoder = ImageEncoderViT(DEEPER, early=early).eval()
    seed(encoder)
    encoder.set_input_side(SIDE)
    return encoder


def tiny_vit(*, early: bool) -> TinyViT:
    encoder = TinyViT(early=early).eval()
    seed(encoder)
    return encoder


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(("build", "layer"), [(vit, "blocks.1"), (tiny_vit, "layers.1")])
def test_early_features_come_beside_the_plain_embedding(build, layer, frame):
    plain, ours, seen = build(early=False), build(early=True), []
    plain.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    image = seeded_tensor("image", 1, 3, *frame)
    embedding, early = ours(image)
    assert torch.equal(embedding, plain(image))
    assert torch.equal(early, seen[0].permute(0, 3, 1, 2) if build is vit else seen[0])
    assert plain.further_outputs == ()
    (described,) = ours.further_outputs
    assert described == ("early_features", early.shape[1], 16)
    assert early.shape[2:] == frame.grid


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("build", [vit, tiny_vit])
def test_encoders_rewritten_for_the_neural_engine_keep_the_early_features(build, frame):
    plain = build(early=True)
    rewritten = replace_any(plain, REPLACEMENTS)
    assert not any(isinstance(module, RelativeAttention) for module in rewritten.modules())
    image = seeded_tensor("image", 1, 3, *frame)
    for found, expected in zip(rewritten(image), plain(image), strict=True):
        assert error(found, expected) <= BOUND
    assert rewritten.further_outputs == plain.further_outputs


# The decoder --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sam() -> Sam:
    with torch.inference_mode():
        sam = Sam(vit(early=True), mask_decoder=HQMaskDecoder(256, DEEPER.dim), conventions=SAM_HQ).eval()
        seed(sam)
        sam.side = SIDE
        sam.prompt_encoder.set_input_side(SIDE)
    return sam


def decoder_inputs(sam: Sam, frame: FrameSize) -> tuple[Tensor, ...]:
    """Two prompts of three slots, the last of which is empty in the second."""
    grid = frame.grid
    coords = seeded_tensor("coords", 2, 3, 2).mul(40).add(90)
    labels = torch.tensor([[1.0, 0.0, -1.0], [2.0, 3.0, -2.0]])
    masks = seeded_tensor("mask", 2, 1, *frame.cells) * 4
    sparse, dense = sam.prompt_encoder(coords, labels, masks, torch.tensor([0.0, 1.0]))
    return (
        seeded_tensor("embedding", 1, 256, *grid),
        seeded_tensor("features", 1, 32, *frame.cells),
        sam.prompt_encoder.dense_positions(grid),
        sparse,
        dense,
        (labels == -2.0).float(),
    )


@pytest.mark.parametrize("hq_token_only", [False, True])
@pytest.mark.parametrize("frame", FRAMES)
def test_decoders_rewritten_for_targets_keep_the_masks(sam, frame, hq_token_only):
    inputs = decoder_inputs(sam, frame)
    plain = sam.mask_decoder
    plain.hq_token_only = hq_token_only
    expected = plain(*inputs)
    assert expected[0].shape == (2, 4, *frame.cells)
    graph = DecoderGraph(sam, frame=frame).eval()
    for rewritten in (lean_rewrite(graph).mask_decoder, replace_any(plain, REPLACEMENTS)):
        for found, wanted in zip(rewritten(*inputs), expected, strict=True):
            assert error(found, wanted) <= BOUND


@pytest.mark.parametrize("frame", [WIDE, TALL])
def test_each_frame_has_the_rows_and_columns_where_they_belong(sam, frame):
    """The transposed frame has the transposed masks, if the kernels and positions are transposed, too."""
    decoder = sam.mask_decoder
    decoder.hq_token_only = False
    embedding, features, positions, sparse, dense, empty = decoder_inputs(sam, frame)
    turned = HQMaskDecoder(256, DEEPER.dim).eval()
    turned.load_state_dict({n: t.mT if t.ndim == 4 else t for n, t in decoder.state_dict().items()})
    masks, iou = decoder(embedding, features, positions, sparse, dense, empty)
    turned_masks, turned_iou = turned(embedding.mT, features.mT, positions.mT, sparse, dense.mT, empty)
    assert error(turned_masks.mT, masks) <= BOUND
    assert error(turned_iou, iou) <= BOUND


def test_empty_slots_change_nothing(sam):
    """The bias that hides them has a place for each output token, and here there is one more than in SAM."""
    embedding, features, positions, sparse, dense, empty = decoder_inputs(sam, WIDE)
    sam.mask_decoder.hq_token_only = False
    masks, iou = sam.mask_decoder(embedding, features, positions, sparse, dense, empty)
    sparse, empty = torch.cat([sparse, sparse + 1], dim=1), torch.cat([empty, torch.ones_like(empty)], dim=1)
    more_masks, more_iou = sam.mask_decoder(embedding, features, positions, sparse, dense, empty)
    assert error(more_masks, masks) <= BOUND
    assert error(more_iou, iou) <= BOUND


def test_the_lean_attention_counts_the_hq_token(sam):
    hq, plain = DecoderGraph(sam).eval(), DecoderGraph(Sam(ImageEncoderViT(NARROW))).eval()
    assert [attention_is_cheaper(graph, 11) for graph in (hq, plain)] == [False, True]
    assert attention_is_cheaper(hq, 10)


@pytest.mark.parametrize("layout", list(Layout))
def test_the_graphs_compute_the_photo_s_part_once(sam, layout):
    """The encoder's graph has the HQ features, the decoder's has none of the modules that make them."""
    sam.mask_decoder.hq_token_only = False
    encoder, decoder = EncoderGraph(sam, layout).eval(), DecoderGraph(sam, layout, WIDE).eval()
    image = torch.rand(layout.shape(3, WIDE)) * 255
    embedding, features = encoder(image)
    contract = encoder_contract(WIDE, 256, layout, SAM_HQ)
    assert [tuple(each.shape) for each in (embedding, features)] == [spec.shape for spec in contract.outputs]
    assert not any(
        name.startswith(("mask_decoder.compress", "mask_decoder.embedding_encoder")) for name in decoder.state_dict()
    )
    photo = image if layout is Layout.NCHW else image.permute(0, 3, 1, 2)
    early = sam.image_encoder((photo - encoder.mean) / encoder.std)
    _, expected = sam.mask_decoder.projection()(*early)
    assert error(features if layout is Layout.NCHW else features.permute(0, 3, 1, 2), expected) <= BOUND
    prompts = (torch.full((1, 1, 2), 90.0), torch.ones(1, 1), torch.zeros(1, 1, *WIDE.cells), torch.zeros(1))
    masks, iou = decoder(embedding, *prompts, features)
    assert masks.shape == (1, 4, *WIDE.cells)
    assert iou.shape == (1, 4)


def test_the_hq_token_alone_is_a_convention_of_the_model(sam):
    changed = copy.copy(sam)
    changed._modules = {**sam._modules, "mask_decoder": copy.copy(sam.mask_decoder)}
    use_hq_token_only(changed)
    assert changed.conventions == replace(SAM_HQ, hq_token_only=True)
    assert changed.mask_decoder.hq_token_only
    with pytest.raises(UsageError, match="--hq-token-only is for SAM-HQ's models"):
        use_hq_token_only(Sam(ImageEncoderViT(NARROW)))
