"""SamModel and SamHQModel of transformers: the same names and outputs; shards; and repositories of the Hub's cache.

transformers is a test dependency. It is imported in this module alone, because that takes seconds.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sam_edge.model import DecoderGraph, Sam, build_sam
from sam_edge.model.hq_mask_decoder import HQMaskDecoder
from sam_edge.model.image_encoder import ImageEncoderViT, ViTConfig
from sam_edge.model.variants import SLIM_77, VARIANTS, VIT_B, VIT_H, VIT_L
from sam_edge.weights.contents import Contents
from sam_edge.weights.conversion import convert
from sam_edge.weights.families import shapes_built, shapes_of_variant
from sam_edge.weights.layouts import HUGGING_FACE, from_official
from sam_edge.weights.load import load_sam
from sam_edge.weights.recognition import normalized, read_checkpoint, recognize
from sam_edge.weights.seeded import seed_module
from sam_edge.weights.source import CheckpointSource, parse_source
from sam_edge_runtime.errors import CheckpointError, UsageError
from tests.hugging_face import TWIN, sam_model, with_sam_weights
from tests.weights.conftest import cached_repository

transformers = pytest.importorskip("transformers", reason="transformers is a test dependency: pip install '.[dev]'")

CONFIGS = {"vit_b": VIT_B, "vit_l": VIT_L, "vit_h": VIT_H, "slimsam_77": SLIM_77}
HQ_CONFIGS = {"sam_hq_vit_b": VIT_B, "sam_hq_vit_l": VIT_L, "sam_hq_vit_h": VIT_H}
# One block of each kind of attention; transformers holds the scores of all positions of a global one at a time.
SMALL = ViTConfig(dim=48, depth=2, heads=4, global_blocks=(1,), mlp_widths=(100, 100))


@pytest.fixture(scope="module")
def ours() -> Sam:
    sam = build_sam("slimsam_77")
    seed_module(sam, 11)
    return sam.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def theirs(ours: Sam) -> torch.nn.Module:
    return with_sam_weights(ours, SLIM_77)


@pytest.mark.parametrize("variant", [*CONFIGS, *HQ_CONFIGS])
def test_names_and_shapes_are_those_of_sam_model(variant):
    hq = variant in HQ_CONFIGS
    theirs = dict(shapes_built(lambda: sam_model({**CONFIGS, **HQ_CONFIGS}[variant], hq=hq)))
    theirs.pop(TWIN)
    zeros = {name: torch.zeros(()).expand(shape) for name, shape in shapes_of_variant(variant).items()}
    assert {name: tuple(tensor.shape) for name, tensor in from_official(zeros, HUGGING_FACE).items()} == theirs


def test_a_saved_sam_model_has_the_same_masks_here(tmp_path):
    """Encoder and decoder against transformers' own: a photo and two clicks."""
    sam = Sam(ImageEncoderViT(SMALL))
    seed_module(sam, 2)
    theirs = with_sam_weights(sam, SMALL)
    theirs.save_pretrained(tmp_path / "whole")
    loaded = load_sam("auto", CheckpointSource(path=tmp_path / "whole"))
    assert loaded.variant == "slimsam"
    rng = np.random.default_rng(0)
    photo = torch.from_numpy(rng.standard_normal((1, 3, 1024, 1024)).astype(np.float32))
    points = torch.tensor([[[[320.0, 200.0], [700.0, 640.0]]]])  # (batch, prompts, points, 2)
    with torch.inference_mode():
        embedding = loaded.sam.image_encoder(photo)
        expected = theirs.get_image_embeddings(photo)
        scale = float(expected.abs().max())
        torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-5 * scale)
        answer = theirs(image_embeddings=expected, input_points=points, input_labels=torch.tensor([[[1, 0]]]))
        # Our slots: two points, then SAM's padding point, as transformers adds it without a box.
        coords = torch.cat([points[0], torch.zeros(1, 1, 2)], dim=1)
        masks, ious = DecoderGraph(loaded.sam)(
            expected, coords, torch.tensor([[1.0, 0.0, -1.0]]), torch.zeros(1, 1, 256, 256), torch.zeros(1)
        )[:2]
    logits = answer.pred_masks[0, 0]  # (3, 256, 256): tokens 1 to 3
    torch.testing.assert_close(masks[0, 1:], logits, rtol=0, atol=1e-4 * float(logits.abs().max()))
    torch.testing.assert_close(ious[0, 1:], answer.iou_scores[0, 0], rtol=0, atol=1e-4)


def test_sam_hq_has_the_masks_of_transformers():
    """Early features, and all masks with and without SAM's own: a photo, and a box in a frame that is no square."""
    ours = Sam(ImageEncoderViT(SMALL, early=True), mask_decoder=HQMaskDecoder(256, SMALL.dim)).eval()
    seed_module(ours, 2)
    theirs = with_sam_weights(ours, SMALL, hq=True)
    rng = np.random.default_rng(0)
    photo = torch.from_numpy(rng.standard_normal((1, 3, 1024, 1024)).astype(np.float32))
    with torch.inference_mode():
        embedding, early = ours.image_encoder(photo)
        their_embedding, (their_early,) = theirs.get_image_embeddings(photo)
        for found, expected in ((embedding, their_embedding), (early, their_early.permute(0, 3, 1, 2))):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
        rows, columns = 40, 64
        embedding, early = (each[:, :, :rows].contiguous() for each in (their_embedding, early))
        positions = ours.prompt_encoder.dense_positions((rows, columns))
        coords, labels = torch.tensor([[[128.0, 96.0], [672.0, 624.0]]]), torch.tensor([[2.0, 3.0]])
        no_mask = torch.zeros(1, 1, 4 * rows, 4 * columns), torch.zeros(1)
        sparse, dense = ours.prompt_encoder(coords, labels, *no_mask)
        for hq_token_only in (True, False):
            ours.mask_decoder.hq_token_only = hq_token_only
            maps = ours.mask_decoder.projection()(embedding, early)
            masks, iou = ours.mask_decoder(*maps, positions, sparse, dense, torch.zeros(1, 2))
            for multimask, tokens in ((False, torch.tensor([0])), (True, 1 + iou[0, 1:].argsort(descending=True))):
                # transformers sorts the masks of tokens 1 to 3 by their IoU predictions.
                logits, scores = theirs.mask_decoder(
                    image_embeddings=embedding,
                    image_positional_embeddings=positions,
                    sparse_prompt_embeddings=sparse[None],
                    dense_prompt_embeddings=dense,
                    multimask_output=multimask,
                    hq_token_only=hq_token_only,
                    intermediate_embeddings=[early.permute(0, 2, 3, 1)],
                )
                expected = logits[0, 0].expand(len(tokens), -1, -1)
                torch.testing.assert_close(masks[0, tokens], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
                torch.testing.assert_close(iou[0, tokens], scores[0, 0], rtol=0, atol=1e-5)


def test_the_names_of_sam_hq_model_are_recognized_and_none_may_be_missing():
    """The widths of ViT-B, with zeros but for one tensor: recognition goes by names and shapes."""
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes_of_variant("sam_hq_vit_b").items()}
    token = torch.arange(256.0).reshape(1, 256)
    theirs = from_official({**state, "mask_decoder.hf_token.weight": token}, HUGGING_FACE)
    assert theirs["mask_decoder.hq_token.weight"] is token
    found = recognize(normalized(Contents((), theirs, None), "model.safetensors"))
    assert found.described.startswith("model.safetensors: sam_hq_vit_b, SAM-HQ (ViT); Hugging Face names, float32")
    torch.testing.assert_close(found.checkpoint.state["mask_decoder.hf_token.weight"], token)
    del theirs["mask_decoder.encoder_norm.bias"]
    with pytest.raises(
        CheckpointError, match=r"nearest is sam_hq_vit_b: missing mask_decoder.embedding_encoder.1.bias$"
    ):
        recognize(normalized(Contents((), theirs, None), "model.safetensors"))


def test_shards_of_save_pretrained_load_as_the_whole(ours, theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="12MB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    state = recognize(read_checkpoint(CheckpointSource(path=tmp_path / "shards"))).checkpoint.state
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)


def test_convert_writes_what_transformers_reads_and_reads_it_back(ours, theirs, tmp_path):
    official, hugging, back = (tmp_path / f"{name}.safetensors" for name in ("official", "model", "back"))
    torch.save({"model": ours.state_dict(), "epoch": 3}, tmp_path / "run.pth")
    convert(CheckpointSource(path=tmp_path / "run.pth"), hugging, "hf")
    theirs.config.save_pretrained(tmp_path)
    read = type(theirs).from_pretrained(tmp_path)
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(read.state_dict()[name], tensor, rtol=0, atol=0)
    convert(CheckpointSource(path=hugging), official, "official")
    convert(CheckpointSource(path=official), back, "hf")
    assert back.read_bytes() == hugging.read_bytes()
    assert set(load_file(official)) == set(ours.state_dict())


def test_convert_refuses_without_writing(tmp_path):
    path, out = tmp_path / "nano.pth", tmp_path / "out.safetensors"
    state = VARIANTS["nano"]().state_dict()
    torch.save(state, path)
    source = CheckpointSource(path=path)
    for arguments, words in (
        ((out, "hf"), r"nano has no names in the layout hf: choose --layout official"),
        ((out, "onnx"), r"no layout called 'onnx': choose one of official, hf"),
        ((tmp_path / "out.pth", "official"), r"out.pth is no .safetensors file"),
    ):
        with pytest.raises(UsageError, match=words):
            convert(source, *arguments)
    with pytest.raises(UsageError, match=r"random:0 is no file"):
        convert(parse_source("random:0"), out, "official")
    next(iter(state.values())).view(-1)[0] = float("nan")
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"NaN or infinite"):
        convert(source, out, "official")
    assert [each.name for each in tmp_path.iterdir()] == ["nano.pth"]


def test_convert_keeps_half_precision(tmp_path):
    state = {n: t.half() if t.is_floating_point() else t for n, t in VARIANTS["nano"]().state_dict().items()}
    torch.save(state, tmp_path / "nano.pth")
    convert(CheckpointSource(path=tmp_path / "nano.pth"), tmp_path / "out.safetensors", "official")
    written = load_file(tmp_path / "out.safetensors")
    assert {name: tensor.dtype for name, tensor in written.items()} == {name: t.dtype for name, t in state.items()}
    for name, tensor in state.items():
        torch.testing.assert_close(written[name], tensor, rtol=0, atol=0)


# ---- the Hub --------------------------------------------------------------------------------------------------------


def test_a_repository_in_the_cache_loads_without_a_network(ours, theirs, hub):
    theirs.save_pretrained(cached_repository(hub, "someone/sam"), max_shard_size="12MB")
    found = recognize(read_checkpoint(parse_source("hf:someone/sam")))
    assert found.described.startswith("hf:someone/sam: slimsam_77, SAM (ViT); Hugging Face names, float32")
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(found.checkpoint.state[name], tensor, rtol=0, atol=0)


def test_one_file_of_a_repository_is_named_by_its_path(hub):
    folder = cached_repository(hub, "someone/weights") / "checkpoints"
    folder.mkdir()
    torch.save(VARIANTS["nano"]().state_dict(), folder / "nano.pth")
    loaded = load_sam("auto", parse_source("hf:someone/weights/checkpoints/nano.pth"))
    assert loaded.variant == "nano"
    assert loaded.checkpoint.label == "hf:someone/weights/checkpoints/nano.pth"


def test_what_is_not_in_the_cache_is_refused_offline(hub):
    with pytest.raises(
        CheckpointError, match=r"^hf:someone/sam is not in the cache, and .* cannot be reached"
    ) as error:
        read_checkpoint(parse_source("hf:someone/sam"))
    assert "hf download someone/sam" in str(error.value)
    assert not hub.exists() or not list(hub.rglob("*.safetensors"))


@pytest.mark.parametrize("text", ["hf:", "hf:sam", "hf:../x", "hf:a/b/../../c", "hf:a b/c", "hf:a/b@", "hf:/a/b"])
def test_malformed_repositories_are_refused(text):
    with pytest.raises(UsageError, match=r"is no repository: write hf:OWNER/NAME such as hf:facebook/sam-vit-base"):
        parse_source(text)


def test_repositories_have_files_and_revisions():
    assert str(parse_source("hf:a/b/c/d.pth@v1").hub) == "hf:a/b/c/d.pth@v1"
    address = parse_source("hf:a/b/c/d.pth@v1").hub
    assert address is not None
    assert (address.repository, address.file, address.revision) == ("a/b", "c/d.pth", "v1")
    assert parse_source("hf:a/b").label == "hf:a/b"
