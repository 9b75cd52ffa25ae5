"""Masks ranked by words, with a tiny CLIP trained here; crops against an explicit computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sam_edge.prediction.clip_encoder import TorchClipEncoder
from sam_edge.prediction.crops import CropSettings, crop_masks, square_boxes
from sam_edge.prediction.ranking import NOTHING, MaskRanker, box_masks, rank_masks
from sam_edge_runtime.bundle.tokenizer import TextTokenizer
from sam_edge_runtime.errors import UsageError
from tests.clip_scenes import COLOURS, NAMES, SHAPES, Scene, config, scene, train_clip, write_tokenizer

pytest.importorskip("tokenizers", reason="the extra text: pip install 'sam-edge[text]'")
SCENES = 12


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TorchClipEncoder:
    tokenizer = TextTokenizer(write_tokenizer(tmp_path_factory.mktemp("clip") / "tokenizer.json"), config())
    return TorchClipEncoder(train_clip(tokenizer), tokenizer)


def scenes() -> list[Scene]:
    return [scene(seed) for seed in range(SCENES)]


@pytest.mark.parametrize(
    "settings", [CropSettings(), CropSettings(1.2, zero_background=False)], ids=["zeroed", "whole"]
)
def test_the_named_mask_comes_first(encoder, settings):
    right = 0
    for made in scenes():
        ranking = rank_masks(made.photo, made.masks, made.names, encoder, settings)
        assert ranking.scores.shape == ranking.cosines.shape == (len(made.masks), len(made.names))
        right += sum(ranking.order(word)[0] == word for word in range(len(made.names)))
    assert right >= 0.95 * SCENES * 4


def test_a_mask_that_shows_no_word_is_nothing(encoder):
    absent, present, ground = [], [], []
    for made in scenes():
        others = [name for name in NAMES if not set(name.split()) & set(made.names[0].split())]
        ranker = MaskRanker([made.names[0], *others[:2]], encoder)
        empty = ~made.masks.any(axis=0)
        empty[:, 60:] = False
        ranking = ranker.rank(made.photo, np.concatenate([made.masks[:1], empty[None]]))
        present.append(ranking.best_words()[0] == (made.names[0], pytest.approx(float(ranking.scores[0, 0]))))
        absent += [float(score) for score in ranking.scores[0, 1:]]
        ground.append(ranking.best_words()[1][0] == NOTHING)
    assert np.mean(present) >= 0.9
    assert max(absent) < 0.2
    assert np.mean(ground) >= 0.9


def test_scores_are_a_softmax_with_nothing_and_do_not_depend_on_batches(encoder):
    made = scene(3, count=9)
    masks = np.concatenate([made.masks] * 5)  # more than one batch
    ranking = rank_masks(made.photo, iter(masks), ["red square", "blue disc"], encoder)
    single = rank_masks(made.photo, made.masks, ["red square", "blue disc"], encoder)
    np.testing.assert_allclose(ranking.scores[:9], single.scores, atol=1e-5)
    np.testing.assert_allclose(ranking.scores[9:18], single.scores, atol=1e-5)
    texts = encoder.encode_texts(["a photo of a red square", "a photo of a blue disc", "a photo of nothing"])
    crops = encoder.encode_crops(crop_masks(made.photo, made.masks, encoder.side, encoder.mean))
    logits = encoder.scale * crops @ texts.T
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(single.scores, shares[:, :2], atol=1e-5)
    assert rank_masks(made.photo, [], ["red square"], encoder).scores.shape == (0, 1)


def test_boxes_are_ranked_like_masks(encoder):
    made = scene(5)
    boxes = square_boxes(made.masks, 1.0)
    masks = box_masks(boxes, made.photo.shape[:2])
    ranking = rank_masks(made.photo, masks, made.names, encoder, CropSettings(1.0, zero_background=False))
    assert [ranking.order(word)[0] for word in range(4)] == [0, 1, 2, 3]
    with pytest.raises(UsageError, match=r"the box \[300.0, 0.0, 310.0, 9.0\] holds no pixel of a photo of 128 x 128"):
        box_masks([300, 0, 310, 9], (128, 128))


def test_the_crop_is_the_square_around_the_mask():
    draw = np.random.default_rng(0)
    photo = draw.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    masks = np.zeros((2, 60, 80), np.bool_)
    masks[0, 20:40, 30:50] = True  # square: its own box, enlarged to 40 pixels, lies within the photo
    masks[1, 0:10, 70:80] = True  # in a corner
    np.testing.assert_allclose(square_boxes(masks, 2.0), [[20, 10, 60, 50], [65, -5, 85, 15]])
    crops = crop_masks(photo, masks, 40, (1, 2, 3), 2.0, np.array([False, False]))
    np.testing.assert_allclose(crops.pixels[0].transpose(1, 2, 0), photo[10:50, 20:60], atol=1)
    np.testing.assert_array_equal(crops.inside[0], masks[0, 10:50, 20:60])
    corner = Image.fromarray(np.pad(photo[:15, 65:], ((5, 0), (0, 5), (0, 0)))).resize(
        (40, 40), Image.Resampling.BICUBIC
    )
    inner = np.zeros((40, 40), np.bool_)
    inner[14:, :26] = True  # away from the padding, whose colour the two differ in
    np.testing.assert_allclose(crops.pixels[1].transpose(1, 2, 0)[inner], np.asarray(corner)[inner], atol=2)
    np.testing.assert_allclose(crops.pixels[1][:, :6, :6], np.array([1, 2, 3])[:, None, None].repeat(6, 1).repeat(6, 2))
    zeroed = crop_masks(photo, masks[:1], 40, (1, 2, 3), 2.0)
    np.testing.assert_allclose(zeroed.pixels[0][:, ~crops.inside[0]].T, np.array([[1, 2, 3]]).repeat(1200, 0), atol=0)
    np.testing.assert_array_equal(zeroed.patches(20)[0], [1, 1, 1, 1])
    np.testing.assert_array_equal(
        crop_masks(photo, masks[:1], 40, (0, 0, 0), 4.0).patches(10)[0].reshape(4, 4)[0], [0] * 4
    )


def test_bad_words_masks_and_settings_are_refused(encoder):
    made = scene(1)
    for words, message in (
        ([], "there is no word"),
        (["red square", " "], "there is no word, or an empty one"),
        (["red square", "red  square"], "the word 'red square' is given twice"),
    ):
        with pytest.raises(UsageError, match=message):
            MaskRanker(words, encoder)
    with pytest.raises(UsageError, match=r"has no \{\}"):
        MaskRanker(["cup"], encoder, template="a photo")
    with pytest.raises(UsageError, match="mask 1 is empty"):
        rank_masks(made.photo, np.stack([made.masks[0], ~made.masks[0] & made.masks[0]]), ["red square"], encoder)
    with pytest.raises(UsageError, match=r"masks of shape \(1, 9, 9\) do not fit"):
        rank_masks(made.photo, np.ones((1, 9, 9), np.bool_), ["red square"], encoder)
    with pytest.raises(UsageError, match="choose a factor from 1 to 4"):
        CropSettings(0.5)
    with pytest.raises(UsageError, match="has no tokenizer"):
        TorchClipEncoder(encoder.clip, None).encode_texts(["cup"])


def test_masked_attention_looks_at_the_mask_alone(encoder):
    """Pixels outside of the mask still reach the last block through earlier ones; its own attention ignores them."""
    made = scene(2)
    crops = crop_masks(made.photo, made.masks[:1], encoder.side, encoder.mean, 2.0, zeroed=False)
    masked = TorchClipEncoder(encoder.clip, None, masked=True)
    assert np.abs(masked.encode_crops(crops) - encoder.encode_crops(crops)).max() > 1e-3
    visual = encoder.clip.visual
    tokens: list[torch.Tensor] = []
    handle = visual.transformer.resblocks[-1].register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0]))
    masked.encode_crops(crops)
    handle.remove()
    inside = torch.from_numpy(crops.patches(encoder.clip.config.patch))[0].bool()
    kept = tokens[0][:, torch.cat([torch.tensor([True]), inside])]
    with torch.inference_mode():
        alone = visual.proj(visual.ln_post(visual.transformer.resblocks[-1](kept)[:, 0]))
    found = masked.encode_crops(crops)
    np.testing.assert_allclose(found, torch.nn.functional.normalize(alone, dim=-1).numpy(), atol=1e-5)


def test_the_scenes_have_all_names():
    assert len(NAMES) == len(COLOURS) * len(SHAPES)
    assert {name for seed in range(SCENES) for name in scene(seed).names} == set(NAMES)
