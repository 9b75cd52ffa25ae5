"""Sam2Model of transformers: the same names and outputs, and conversion both ways.

transformers is a test dependency. It is imported in this module and in `test_hugging_face.py` alone, because that takes
seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sam_edge.model import Sam
from sam_edge.model.feature_pyramid import PyramidImageEncoder
from sam_edge.model.hiera import HIERA_BASE_PLUS, HIERA_LARGE, HIERA_SMALL, HIERA_TINY, Hiera, HieraConfig
from sam_edge.model.sam2_mask_decoder import SAM2MaskDecoder
from sam_edge.weights.contents import Contents
from sam_edge.weights.conversion import convert
from sam_edge.weights.families import build_empty, shapes_of_variant
from sam_edge.weights.layouts import SAM2_HUGGING_FACE, SAM2_OFFICIAL, from_official
from sam_edge.weights.recognition import normalized, recognize
from sam_edge.weights.seeded import seed_module
from sam_edge.weights.source import CheckpointSource
from sam_edge_runtime.errors import CheckpointError
from tests.hugging_face import sam2_config, sam2_model, with_sam2_weights

transformers = pytest.importorskip("transformers", reason="transformers is a test dependency: pip install '.[dev]'")

CONFIGS = {
    "sam2.1_hiera_tiny": HIERA_TINY,
    "sam2.1_hiera_small": HIERA_SMALL,
    "sam2.1_hiera_base_plus": HIERA_BASE_PLUS,
    "sam2.1_hiera_large": HIERA_LARGE,
}
SIDE = 256
SMALL = HieraConfig(16, 1, (1, 1, 2, 1), (8, 4, 14, 7), (3,))


def zeros(variant: str) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes_of_variant(variant).items()}


@pytest.mark.parametrize("variant", list(CONFIGS))
def test_names_and_shapes_are_those_of_sam2_model(variant):
    theirs = sam2_model(CONFIGS[variant]).state_dict()
    ours = from_official(zeros(variant), SAM2_HUGGING_FACE)
    assert {name: each.shape for name, each in ours.items()} == {name: each.shape for name, each in theirs.items()}


def test_names_of_edgetam_are_those_of_timms_trunk_in_sam2_model():
    """As transformers' conversion script writes them; EdgeTamModel itself needs timm, which needs torchvision."""
    theirs = {name for name in sam2_model(HIERA_TINY).state_dict() if not name.startswith("vision_encoder.backbone.")}
    ours = set(from_official(zeros("edgetam"), SAM2_HUGGING_FACE))
    trunk = {name for name in ours if name.startswith("vision_encoder.backbone.")}
    assert ours - trunk == theirs
    assert "vision_encoder.backbone.timm_model.stages_2.blocks.13.token_mixer.conv1.bn.running_mean" in trunk
    assert all(name.startswith("vision_encoder.backbone.timm_model.st") for name in trunk)


def test_a_video_model_is_recognized_and_its_memory_left_out():
    """The files of the Hub are those of Sam2VideoModel."""
    config = transformers.Sam2VideoConfig(**sam2_config(HIERA_TINY))
    names = build_empty(lambda: transformers.Sam2VideoModel(config)).state_dict()
    tree = {name: torch.zeros(()).expand(each.shape) for name, each in names.items()}
    found = recognize(normalized(Contents((), tree, None), "model.safetensors"))
    assert found.described.startswith(
        "model.safetensors: sam2.1_hiera_tiny, SAM 2 (Hiera); Hugging Face names, float32; "
        "not SAM 2.1's own file: SAM 2.0's, fine-tuned and converted weights have the same modules"
    )
    assert {entry.partition(" ")[0] for entry in found.checkpoint.left_out} == {
        "mask_downsample",
        "memory_attention",
        "memory_encoder",
        "memory_temporal_positional_encoding",
        "no_memory_positional_encoding",
        "no_object_pointer",
        "object_pointer_proj",
        "occlusion_spatial_embedding_parameter",
        "temporal_positional_encoding_projection_layer",
    }
    assert set(found.checkpoint.state) == set(shapes_of_variant("sam2.1_hiera_tiny"))


def test_sam2_model_has_the_same_features_masks_and_scores():
    """A photo with two clicks, then with a box: features, all four masks, IoU predictions and object scores."""
    ours = Sam(PyramidImageEncoder(Hiera(SMALL)), mask_decoder=SAM2MaskDecoder()).eval()
    seed_module(ours, 3)
    ours.set_input_side(SIDE)
    theirs = with_sam2_weights(ours, SMALL)
    photo = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32))
    clicks, box = [[70.0, 50.0], [180.0, 160.0]], [32.0, 24.0, 168.0, 156.0]
    prompts = (
        ([*clicks, [0.0, 0.0]], [1.0, 0.0, -1.0], {"input_points": [[clicks]], "input_labels": [[[1, 0]]]}),
        ([box[:2], box[2:], [0.0, 0.0]], [2.0, 3.0, -1.0], {"input_boxes": [[box]]}),
    )
    with torch.inference_mode():
        maps = ours.mask_decoder.projection()(*ours.image_encoder(photo))
        encoded = theirs.get_image_embeddings(photo)
        for found, expected in zip((maps[1], maps[2], maps[0]), encoded, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
        for coords, labels, prompt in prompts:
            slots, label = torch.tensor([coords]), torch.tensor([labels])
            no_mask = torch.zeros(1, 1, SIDE // 4, SIDE // 4), torch.zeros(1)
            sparse, dense = ours.prompt_encoder(slots, label, *no_mask)
            positions = ours.prompt_encoder.dense_positions()
            masks, iou, score = ours.mask_decoder(*maps, positions, sparse, dense, torch.zeros(1, 3))
            tensors = {name: torch.tensor(value) for name, value in prompt.items()}
            for multimask, tokens in ((False, slice(0, 1)), (True, slice(1, 4))):
                answer = theirs(image_embeddings=encoded, multimask_output=multimask, **tensors)
                logits = answer.pred_masks[0, 0]
                torch.testing.assert_close(masks[0, tokens], logits, rtol=0, atol=1e-4 * float(logits.abs().max()))
                torch.testing.assert_close(iou[0, tokens], answer.iou_scores[0, 0], rtol=0, atol=1e-5)
                torch.testing.assert_close(score[0], answer.object_score_logits[0, 0], rtol=0, atol=1e-5)


def test_convert_writes_what_transformers_reads_and_reads_it_back(tmp_path: Path):
    """From a file as the official training writes it, with a part for videos. Each tensor is full of its own number."""
    state = {
        name: torch.tensor(number, dtype=torch.float16).expand(shape)
        for number, (name, shape) in enumerate(shapes_of_variant("sam2.1_hiera_tiny").items())
    }
    official = from_official(state, SAM2_OFFICIAL)
    torch.save({"model": {**official, "no_obj_ptr": torch.ones(1, 256)}}, tmp_path / "sam2.pt")
    hugging, written, back = (tmp_path / f"{name}.safetensors" for name in ("model", "official", "back"))
    found = convert(CheckpointSource(path=tmp_path / "sam2.pt"), hugging, "hf")
    assert found.checkpoint.left_out == ("no_obj_ptr",)
    transformers.Sam2Config(**sam2_config(HIERA_TINY)).save_pretrained(tmp_path)
    read, report = transformers.Sam2Model.from_pretrained(tmp_path, dtype=torch.float16, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = from_official(state, SAM2_HUGGING_FACE)
    for name, tensor in read.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    convert(CheckpointSource(path=hugging), written, "official")
    tensors = load_file(written)
    assert set(tensors) == set(official)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in official.items())
    convert(CheckpointSource(path=written), back, "hf")
    assert back.read_bytes() == hugging.read_bytes()


def test_a_table_of_points_with_another_number_of_rows_is_refused():
    tree = from_official(zeros("sam2.1_hiera_tiny"), SAM2_HUGGING_FACE)
    tree["prompt_encoder.point_embed.weight"] = torch.zeros(2, 256)
    with pytest.raises(CheckpointError, match=r"point_embed.weight is \(2, 256\) where 4 rows are due: save the model"):
        normalized(Contents((), tree, None), "model.safetensors")
