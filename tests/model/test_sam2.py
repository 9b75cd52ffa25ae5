"""The image path of SAM 2.1 and EdgeTAM against the official code: names of the checkpoints, and stored outputs.

`data/sam2_state_dicts.json` lists the tensors of the checkpoints beside SAM 2.1's image encoders: those of the image
path, which are the same in all, and those that only videos need. `data/sam2_outputs.npz` and
`data/sam2_image_encoders.npz` hold parts of what the official code computes in fp32 on a CPU for standard normal
numbers, with weights seeded by name: the trunk's outputs, the embedding with `no_mem_embed` added, the high-resolution
features, the mean and deviation of each whole map, and for five prompts all four masks, their IoU predictions and the
object score. The code is facebookresearch/sam2 (commit 2b90b9f5), and facebookresearch/EdgeTAM (commit 9cc44bfe) with
timm 1.0.15. `data/sam2_predictions.npz` holds what the `SAM2ImagePredictor` of both returns for a photo of 480 x 640
with these features.
transformers' Sam2Model is compared in `tests/weights/test_hugging_face_sam2.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sam_edge.model import DecoderGraph, build_sam
from sam_edge.model.ane.rewrite import REPLACEMENTS
from sam_edge.model.feature_pyramid import PyramidImageEncoder
from sam_edge.model.hiera import Hiera, HieraConfig
from sam_edge.model.lean import attention_is_cheaper, lean_rewrite
from sam_edge.model.replacement import replace_any
from sam_edge.model.repvit import RepViT
from sam_edge.model.sam import Sam
from sam_edge.model.sam2_mask_decoder import SAM2MaskDecoder
from sam_edge.weights.layouts import SAM2_OFFICIAL
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.conventions import SAM_2
from tests.model.builders import BOUND, error, gap, seed, seeded_tensor
from tests.model.stored import (
    SAM_PROMPTS,
    converted_shapes,
    mask_prompt,
    normal_image,
    predictor_of,
    prompt_arguments,
    with_official_weights,
)

DATA = Path(__file__).parent / "data"
# Variants, and their names in the data.
VARIANTS = {
    "sam2.1_hiera_tiny": "tiny",
    "sam2.1_hiera_small": "small",
    "sam2.1_hiera_base_plus": "base_plus",
    "sam2.1_hiera_large": "large",
    "edgetam": "edgetam",
}
QUICK = ("sam2.1_hiera_tiny", "edgetam")
# Largest differences from the official code. Rounding moves tiny's trunk by 8e-6, its embedding by 2e-5 and its masks
# by 8e-6 (fp32 against fp64); another epsilon of the trunk's norms moves the trunk by 7e-5, another of the decoder's
# norms the masks by 8e-4, points without the shift of half a pixel the sparse embeddings by 3e-3. Large's features are
# larger; EdgeTAM's are small, and rounding moves them by 5e-7 and its masks by 4e-6.
TRUNK = {"tiny": 3e-5, "small": 3e-5, "base_plus": 3e-5, "large": 2e-4, "edgetam": 1e-5}
FEATURES = {"tiny": 1e-4, "small": 1e-4, "base_plus": 1e-4, "large": 2e-4, "edgetam": 1e-5}
SCORES = 1e-5
SIDE = 256
WIDE, TALL = FrameSize(160, 256), FrameSize(256, 192)
NARROW = HieraConfig(8, 1, (1, 1, 2, 1), (8, 4, 14, 7), (3,))

pytestmark = pytest.mark.usefixtures("without_gradients")


# The checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_state_dicts_are_those_of_the_official_checkpoints(variant):
    encoders = json.loads((DATA / "sam2_image_encoders.json").read_text(encoding="utf-8"))
    table = json.loads((DATA / "sam2_state_dicts.json").read_text(encoding="utf-8"))
    if variant == "edgetam":
        encoder = table["edgetam_encoder"]
    else:
        encoder = {f"image_encoder.{name}": shape for name, shape in encoders[VARIANTS[variant]].items()}
    expected = {name: tuple(shape) for name, shape in {**encoder, **table["image"]}.items()}
    assert converted_shapes(variant, SAM2_OFFICIAL) == expected


# The stored outputs -------------------------------------------------------------------------------------------------

# Points (x, y) with labels in pixels of a photo of 640 x 480. Corners of a box stand first, a padding point last.
PROMPTS: dict[str, list[tuple[float, float, int]]] = {
    "point": [(320, 200, 1), (0, 0, -1)],
    "points": [(100, 50, 1), (500, 400, 0), (0, 0, -1)],
    "box": [(80, 60, 2), (420, 390, 3), (0, 0, -1)],
    "box_point": [(80, 60, 2), (420, 390, 3), (250, 300, 0), (0, 0, -1)],
    "mask": [(320, 200, 1), (0, 0, -1)],
}


def encode(sam: Sam, photo: Tensor) -> tuple[tuple[Tensor, ...], dict[str, tuple[Tensor, tuple[int, int, int]]]]:
    """The maps that the decoder takes; and all maps by name, each with the steps at which the data holds it."""
    seen: list[tuple[Tensor, ...]] = []
    handle = sam.image_encoder.trunk.register_forward_hook(lambda module, inputs, output: seen.append(output))
    maps = sam.mask_decoder.projection()(*sam.image_encoder(photo))
    handle.remove()
    steps = ((4, 3, 3), (4, 7, 7), (4, 5, 5))
    names = ("image_embed", "high_res_0", "high_res_1")
    named = {name: (each[0], step) for name, each, step in zip(names, maps, steps, strict=True)}
    for level, (each, step) in enumerate(zip(seen[0], (14, 10, 6, 4), strict=True)):
        named[f"trunk_{level}"] = (each[0], (each.shape[1] // 16, step, step))
    return maps, named


@pytest.mark.parametrize(
    "variant", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in VARIANTS]
)
def test_outputs_equal_those_of_the_official_code(variant):
    name, sam = VARIANTS[variant], with_official_weights(build_sam(variant), SAM2_OFFICIAL)
    photo = normal_image(1024)
    maps, named = encode(sam, photo)
    with np.load(DATA / f"sam2_{'outputs' if variant == 'edgetam' else 'image_encoders'}.npz") as stored:
        for key, (whole, (channels, rows, columns)) in named.items():
            bound = (TRUNK if key.startswith("trunk") else FEATURES)[name]
            ours = whole[::channels, ::rows, ::columns][:: 4 if key == "image_embed" or name != "tiny" else 1]
            assert gap(ours, stored[f"{name}_{key}"]) <= bound, key
            assert abs(whole.double().mean().item() - stored[f"{name}_{key}_mean"]) <= bound, key
            assert abs(whole.double().std(correction=0).item() - stored[f"{name}_{key}_std"]) <= bound, key
    encoder, positions = sam.prompt_encoder, sam.prompt_encoder.dense_positions()
    mask = torch.from_numpy(mask_prompt())
    with np.load(DATA / "sam2_outputs.npz") as stored:
        assert gap(positions[0, ::16, ::7, ::7], stored["positions"]) <= SCORES
        for prompt, points in PROMPTS.items():
            slots = torch.tensor([points], dtype=torch.float32)
            coords = slots[..., :2] * torch.tensor([1024 / 640, 1024 / 480])
            has_mask = torch.tensor([float(prompt == "mask")])
            sparse, dense = encoder(coords, slots[..., 2], mask[None], has_mask)
            assert gap(sparse[0, :, ::4], stored[f"{prompt}_sparse"]) <= SCORES
            if prompt == "mask":
                assert gap(dense[0, ::16, ::14, ::14], stored["mask_dense"]) <= BOUND
            masks, iou, score = sam.mask_decoder(*maps, positions, sparse, dense, torch.zeros(slots.shape[:2]))
            assert gap(masks[0, :, ::14, ::14], stored[f"{name}_{prompt}_masks"]) <= FEATURES[name]
            assert gap(iou[0], stored[f"{name}_{prompt}_iou"]) <= SCORES
            assert gap(score[0], stored[f"{name}_{prompt}_object_score"]) <= SCORES
    compare_predictions(name, sam, maps)


def compare_predictions(name: str, sam: Sam, maps: tuple[Tensor, ...]) -> None:
    """`SamPredictor` answers as `SAM2ImagePredictor` does: the chosen mask, its IoU, and masks of the photo's size."""
    predictor = predictor_of(sam, *maps)
    with np.load(DATA / "sam2_predictions.npz") as stored:
        for prompt, slots in SAM_PROMPTS.items():
            given = prompt_arguments(prompt, slots)
            _, iou, low_res = predictor.predict(**given, multimask_output=False)
            assert gap(torch.from_numpy(iou), stored[f"{name}_{prompt}_single_iou"]) <= SCORES, prompt
            assert gap(torch.from_numpy(low_res)[:, ::14, ::14], stored[f"{name}_{prompt}_single_low_res"]) <= BOUND
            if prompt == "point":
                logits, iou, low_res = predictor.predict(**given, return_logits=True)
                assert gap(torch.from_numpy(iou), stored[f"{name}_point_multi_ious"]) <= SCORES
                assert gap(torch.from_numpy(low_res)[:, ::14, ::14], stored[f"{name}_point_multi_low_res"]) <= BOUND
                assert gap(torch.from_numpy(logits)[:, ::29, ::31], stored[f"{name}_point_multi_full"]) <= BOUND


# Every part ---------------------------------------------------------------------------------------------------------


class WidestTensor(TorchDispatchMode):
    """Records the most axes that a tensor has."""

    axes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            self.axes = max(self.axes, each.ndim if isinstance(each, Tensor) else 0)
        return out


@pytest.mark.parametrize("trunk", [lambda: Hiera(NARROW), RepViT])
def test_no_tensor_has_more_than_four_axes(trunk):
    """Phones' delegates take no more."""
    encoder, decoder = PyramidImageEncoder(trunk()).eval(), SAM2MaskDecoder().eval()
    with WidestTensor() as seen:
        maps = decoder.projection()(*encoder(torch.zeros(1, 3, 64, 96)))
        decoder(*maps, torch.zeros(1, 256, 4, 6), torch.zeros(2, 3, 256), torch.zeros(2, 256, 4, 6), torch.zeros(2, 3))
    assert seen.axes == 4


# The decoder --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sam() -> Sam:
    with torch.inference_mode():
        sam = Sam(PyramidImageEncoder(Hiera(NARROW)), mask_decoder=SAM2MaskDecoder(), conventions=SAM_2).eval()
        seed(sam)
        sam.set_input_side(SIDE)
    return sam


def decoder_inputs(sam: Sam, frame: FrameSize) -> tuple[Tensor, ...]:
    """Two prompts of three slots, the last of which is empty in the second."""
    h, w = frame.grid
    coords = seeded_tensor("coords", 2, 3, 2).mul(40).add(90)
    labels = torch.tensor([[1.0, 0.0, -1.0], [2.0, 3.0, -2.0]])
    masks = seeded_tensor("mask", 2, 1, *frame.cells) * 4
    sparse, dense = sam.prompt_encoder(coords, labels, masks, torch.tensor([0.0, 1.0]))
    return (
        seeded_tensor("embedding", 1, 256, h, w),
        *(
            seeded_tensor(each.name, 1, each.channels, 16 * h // each.stride, 16 * w // each.stride)
            for each in SAM_2.features
        ),
        sam.prompt_encoder.dense_positions(frame.grid),
        sparse,
        dense,
        (labels == -2.0).float(),
    )


@pytest.mark.parametrize("frame", [WIDE, TALL, FrameSize.square(SIDE)])
def test_the_projection_makes_the_features_of_the_conventions(sam, frame):
    decoder = sam.mask_decoder
    maps = decoder.projection()(*sam.image_encoder(seeded_tensor("image", 1, 3, *frame)))
    assert [tuple(each.shape) for each in maps] == [
        (1, channels, frame.height // stride, frame.width // stride)
        for channels, stride in [(256, 16), *((each.channels, each.stride) for each in SAM_2.features)]
    ]


def test_the_parts_that_run_once_per_photo_are_those_of_the_projection(sam):
    """Without them the decoder computes the same."""
    decoder, inputs = sam.mask_decoder, decoder_inputs(sam, WIDE)
    assert [name for name, _ in decoder.projection().named_children()] == list(decoder.per_photo)
    expected = decoder(*inputs)
    rest = replace_any(decoder, {})
    for name in decoder.per_photo:
        delattr(rest, name)
    for found, wanted in zip(rest(*inputs), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("frame", [WIDE, TALL, FrameSize.square(SIDE)])
def test_decoders_rewritten_for_targets_keep_the_outputs(sam, frame):
    inputs, plain = decoder_inputs(sam, frame), sam.mask_decoder
    expected = plain(*inputs)
    assert [tuple(each.shape) for each in expected] == [(2, 4, *frame.cells), (2, 4), (2, 1)]
    graph = DecoderGraph(sam, frame=frame).eval()
    for rewritten in (lean_rewrite(graph).mask_decoder, replace_any(plain, REPLACEMENTS)):
        for found, wanted in zip(rewritten(*inputs), expected, strict=True):
            assert error(found, wanted) <= BOUND


@pytest.mark.parametrize("frame", [WIDE, TALL])
def test_each_frame_has_the_rows_and_columns_where_they_belong(sam, frame):
    """The transposed frame has the transposed masks, if the kernels and positions are transposed, too."""
    decoder, inputs = sam.mask_decoder, decoder_inputs(sam, frame)
    turned = SAM2MaskDecoder().eval()
    turned.load_state_dict({n: t.mT if t.ndim == 4 else t for n, t in decoder.state_dict().items()})
    masks, *others = decoder(*inputs)
    turned_masks, *turned_others = turned(*(each.mT if each.ndim == 4 else each for each in inputs))
    assert error(turned_masks.mT, masks) <= BOUND
    for found, wanted in zip(turned_others, others, strict=True):
        assert error(found, wanted) <= BOUND


def test_empty_slots_change_nothing(sam):
    """The bias that hides them has a place for each output token, and here there is one more than in SAM."""
    *maps, sparse, dense, empty = decoder_inputs(sam, WIDE)
    expected = sam.mask_decoder(*maps, sparse, dense, empty)
    sparse, empty = torch.cat([sparse, sparse + 1], dim=1), torch.cat([empty, torch.ones_like(empty)], dim=1)
    for found, wanted in zip(sam.mask_decoder(*maps, sparse, dense, empty), expected, strict=True):
        assert error(found, wanted) <= BOUND


def test_the_lean_attention_counts_the_token_of_the_object_score(sam):
    graph = DecoderGraph(sam).eval()
    assert [attention_is_cheaper(graph, slots) for slots in (9, 10)] == [True, False]
