"""`SamPredictor`: inputs of the decoder, results, invalid prompts, and parity with segment_anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.bundle.contract import PIXEL_MEAN, PIXEL_STD
from sam_edge_runtime.errors import PhotoError, PromptError, StateError, UsageError
from sam_edge_runtime.predictor import SamPredictor
from sam_edge_runtime.prompts import LARGEST_CHUNK
from tests.reference import import_segment_anything
from tests.runtime.standin import CELLS, CHANNELS, SIDE, NumpyBackend, bundle_without_files, decode, encode

SIZE = (96, 192)  # scale 256 / 192: coordinates times 4 / 3
SCALE = SIDE / 192


def photo(size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def predictor(prompts: int | None = None, points: int | None = None) -> SamPredictor:
    made = SamPredictor(bundle_without_files(prompts, points), backend=NumpyBackend())
    made.set_image(photo())
    return made


def mask_prompts(count: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((count, 1, CELLS, CELLS)).astype(np.float32)


# Inputs of the decoder ----------------------------------------------------------------------------------------------


CLICKS, LABELS, BOX = [[30, 60], [90.5, 12]], [1, 0], [10, 20, 100, 80]
FRAME_CLICKS = [[30 * SCALE, 60 * SCALE], [90.5 * SCALE, 12 * SCALE]]
FRAME_BOX = [[10 * SCALE, 20 * SCALE], [100 * SCALE, 80 * SCALE]]


@pytest.mark.parametrize(
    ("prompt", "coords", "labels"),
    [
        ({"point_coords": CLICKS, "point_labels": LABELS}, [*FRAME_CLICKS, [0, 0]], [1, 0, -1]),
        ({"box": BOX}, FRAME_BOX, [2, 3]),
        ({"box": [BOX]}, FRAME_BOX, [2, 3]),
        ({"point_coords": CLICKS, "point_labels": LABELS, "box": BOX}, FRAME_CLICKS + FRAME_BOX, [1, 0, 2, 3]),
        ({"point_coords": np.zeros((0, 2)), "point_labels": np.zeros(0)}, [[0, 0]], [-1]),
        ({}, [[0, 0]], [-2]),
        ({"mask_input": mask_prompts(1)[0]}, [[0, 0]], [-2]),
    ],
)
@pytest.mark.parametrize(("capacity", "slots"), [(None, None), (1, 4), (3, 9)])
def test_slots_are_arranged_as_in_segment_anything(prompt, coords, labels, capacity, slots):
    made = predictor(capacity, slots)
    made.predict(**prompt)
    (call,) = made.backend.calls
    rows, columns = capacity or 1, slots or len(labels)
    assert call.coords.shape == (rows, columns, 2)
    assert call.labels.shape == (rows, columns)
    assert call.masks.shape == (rows, 1, CELLS, CELLS)
    assert call.has_mask.shape == (rows,)
    assert {array.dtype for array in vars(call).values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(call.coords[0, : len(labels)], coords, rtol=1e-6)
    assert call.labels[0, : len(labels)].tolist() == labels
    assert (call.labels[0, len(labels) :] == -2).all()
    assert (call.labels[1:] == -2).all()
    if "mask_input" in prompt:
        np.testing.assert_array_equal(call.masks[0], prompt["mask_input"])
    assert call.has_mask.tolist() == [float("mask_input" in prompt)] + [0.0] * (rows - 1)


def test_the_encoder_gets_the_frame_in_rgb():
    made = predictor()
    made.set_image(photo()[:, :, ::-1], "BGR")
    first, second = made.backend.images
    assert first.shape == (1, 3, SIDE, SIDE)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("count", [1, 5, 16, 17, 64, 65, 130])
@pytest.mark.parametrize("capacity", [None, 1, 4, 64])
def test_batches_are_decoded_in_chunks_and_in_order(count, capacity):
    made = predictor(capacity, None if capacity is None else 3)
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 1, (count, 1, 2)) * [192, 96]
    labels = rng.integers(0, 2, (count, 1))
    masks, scores, low_res = made.predict_batch(coords, labels, multimask_output=False)
    assert masks.shape == (count, 1, *SIZE)
    assert masks.dtype == np.bool_
    size = LARGEST_CHUNK if capacity is None else capacity
    assert len(made.backend.calls) == -(-count // size)
    assert all(len(call.labels) == (min(count, size) if capacity is None else size) for call in made.backend.calls[:-1])
    for index in (0, count // 2, count - 1):
        one = made.predict(coords[index], labels[index], multimask_output=False)
        for batch, alone in zip((masks, scores, low_res), one, strict=True):
            np.testing.assert_array_equal(batch[index], alone)


def test_without_a_capacity_at_most_16_prompts_share_a_call():
    made = predictor()
    made.predict_batch(boxes=[BOX] * 64)
    assert [len(call.labels) for call in made.backend.calls] == [16] * 4


def test_every_input_of_a_batch_stays_with_its_prompt():
    made = predictor(2, 5)
    boxes = np.array([[0, 0, 50, 50], [5, 5, 60, 70], [100, 10, 300, 90]], float)
    coords, labels = np.full((3, 2, 2), 40.0), np.array([[1, 0], [1, 1], [0, 0]])
    masks = mask_prompts(3)
    batch = made.predict_batch(coords, labels, boxes, masks, return_logits=True)
    assert [call.has_mask.tolist() for call in made.backend.calls] == [[1, 1], [1, 0]]
    for index in range(3):
        one = made.predict(coords[index], labels[index], boxes[index], masks[index], return_logits=True)
        for many, alone in zip(batch, one, strict=True):
            np.testing.assert_array_equal(many[index], alone)


def test_prompts_of_different_lengths_share_an_array():
    made = predictor(points=4)
    coords = np.array([[[9, 9], [8, 8], [0, 0], [0, 0], [7, 7]], [[np.nan, -5], [0, 0], [6, 6], [0, 0], [0, 0]]])
    labels = np.array([[1, 0, -2, -2, 1], [-2, -2, 1, -2, -2]])
    masks, scores, _ = made.predict_batch(coords, labels)
    assert masks.shape == (2, 3, *SIZE)
    assert made.backend.calls[0].labels.tolist() == [[1, 0, 1, -1], [1, -1, -2, -2]]
    np.testing.assert_array_equal(scores[0], made.predict([[9, 9], [8, 8], [7, 7]], [1, 0, 1])[1])
    np.testing.assert_array_equal(scores[1], made.predict([[6, 6]], [1])[1])


def test_a_batch_may_contain_sams_own_padding():
    made = predictor()
    made.predict_batch([[[9, 9], [500, 500]]], [[1, -1]])
    (call,) = made.backend.calls
    assert call.labels.tolist() == [[1, -1, -1]]
    assert (call.coords[0, 1:] == 0).all()


def test_no_prompts_give_no_masks():
    for prompts in (
        {"point_coords": np.zeros((0, 2, 2)), "point_labels": np.zeros((0, 2))},
        {"boxes": []},
        {"boxes": np.zeros((0, 4))},
    ):
        masks, scores, low_res = predictor(4, 4).predict_batch(**prompts)
        assert (masks.shape, scores.shape, low_res.shape) == ((0, 3, *SIZE), (0, 3), (0, 3, CELLS, CELLS))


# Results ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("multimask", "outputs"), [(True, slice(1, 4)), (False, slice(0, 1))])
def test_the_chosen_masks_are_returned(multimask, outputs):
    made = predictor()
    expected_low_res, expected_scores = decode(
        encode(made.backend.images[0]),
        np.array([[[30 * SCALE, 60 * SCALE], [0, 0]]], np.float32),
        np.array([[1, -1]], np.float32),
        np.zeros((1, 1, CELLS, CELLS), np.float32),
        np.zeros(1, np.float32),
    )
    prompt = ([[30, 60]], [1])
    logits, scores, low_res = made.predict(*prompt, multimask_output=multimask, return_logits=True)
    np.testing.assert_allclose(low_res, expected_low_res[0, outputs], rtol=1e-5)
    np.testing.assert_allclose(scores, expected_scores[0, outputs], rtol=1e-5)
    assert logits.dtype == scores.dtype == low_res.dtype == np.float32
    masks, _, _ = made.predict(*prompt, multimask_output=multimask)
    assert masks.dtype == np.bool_
    assert masks.shape == (3 if multimask else 1, *SIZE)
    np.testing.assert_array_equal(masks, logits > 0)


def test_the_state_follows_the_photo():
    made = SamPredictor(bundle_without_files(), backend=NumpyBackend())
    assert not made.is_image_set
    made.set_image(photo())
    assert made.is_image_set
    assert made.original_size == SIZE
    assert made.input_size == (128, 256)
    embedding = made.get_image_embedding()
    assert embedding.shape == (1, CHANNELS, 16, 16)
    embedding[:] = 0
    assert made.get_image_embedding().any()
    made.reset_image()
    assert not made.is_image_set


@pytest.mark.parametrize("name", ["predict", "predict_batch", "get_image_embedding", "original_size", "input_size"])
def test_a_call_before_set_image_is_refused(name):
    made = SamPredictor(bundle_without_files(), backend=NumpyBackend())
    with pytest.raises(StateError, match=rf"call set_image\(photo\) before {name}"):
        _use(made, name)


def _use(made: SamPredictor, name: str) -> None:
    value = getattr(made, name)
    value()


# Invalid prompts and images -----------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")

BAD_PROMPTS = {
    "NaN point": ({"point_coords": [[NAN, 5]], "point_labels": [1]}, "not finite"),
    "infinite point": ({"point_coords": [[5, INF]], "point_labels": [1]}, "not finite"),
    "points without labels": ({"point_coords": [[5, 5]]}, "without point_labels"),
    "labels without points": ({"point_labels": [1]}, "without point_coords"),
    "fewer labels": ({"point_coords": [[5, 5], [6, 6]], "point_labels": [1]}, "do not match"),
    "more labels": ({"point_coords": [[5, 5]], "point_labels": [1, 0]}, "do not match"),
    "flat point": ({"point_coords": [5, 5], "point_labels": [1]}, r"\(N, 2\)"),
    "three coordinates": ({"point_coords": [[5, 5, 5]], "point_labels": [1]}, r"\(N, 2\)"),
    "ragged points": ({"point_coords": [[5, 5], [5]], "point_labels": [1, 1]}, "different lengths"),
    "empty list": ({"point_coords": [], "point_labels": []}, r"\(N, 2\)"),
    "words": ({"point_coords": [["5", "5"]], "point_labels": [1]}, "give numbers"),
    "label 2": ({"point_coords": [[5, 5]], "point_labels": [2]}, "point label 2 is not one of 0, 1"),
    "label -1": ({"point_coords": [[5, 5]], "point_labels": [-1]}, "point label -1"),
    "label -2": ({"point_coords": [[5, 5]], "point_labels": [-2]}, "point label -2"),
    "label 0.5": ({"point_coords": [[5, 5]], "point_labels": [0.5]}, "point label 0.5"),
    "label NaN": ({"point_coords": [[5, 5]], "point_labels": [NAN]}, "point label nan"),
    "left of the photo": ({"point_coords": [[-0.1, 5]], "point_labels": [1]}, "outside the photo of 192x96"),
    "right of the photo": ({"point_coords": [[193, 5]], "point_labels": [1]}, "outside the photo"),
    "below the photo": ({"point_coords": [[5, 97]], "point_labels": [1]}, "outside the photo"),
    "NaN box": ({"box": [0, 0, NAN, 5]}, "not finite"),
    "infinite box": ({"box": [0, 0, INF, 5]}, "not finite"),
    "absurd box": ({"box": [0, 0, 1e300, 5]}, "larger than any photo"),
    "three corners": ({"box": [0, 0, 5]}, r"\(4,\)"),
    "ragged box": ({"box": [[1, 2], [3, 4, 5]]}, "box has rows of different lengths"),
    "box in two batches": ({"box": [[[0, 0, 5, 5]]]}, r"\(4,\)"),
    "two boxes and a point": (
        {"box": [[0, 0, 5, 5], [0, 0, 6, 6]], "point_coords": [[2, 2]], "point_labels": [1]},
        "different numbers of prompts .point_coords 1, boxes 2.",
    ),
    "box without width": ({"box": [5, 0, 5, 9]}, "no area"),
    "box inside out": ({"box": [0, 9, 5, 2]}, "no area"),
    "box left of the photo": ({"box": [-9, 0, 0, 9]}, "must overlap"),
    "box below the photo": ({"box": [0, 96, 9, 120]}, "must overlap"),
    "mask of another size": ({"mask_input": np.zeros((1, 256, 256))}, r"takes \(1, 64, 64\)"),
    "mask without its axis": ({"mask_input": np.zeros((64, 64))}, r"takes \(1, 64, 64\).* mask_input\[None\]"),
    "NaN in the mask": ({"mask_input": np.full((1, 64, 64), NAN)}, "not finite"),
    "boolean mask": ({"mask_input": np.zeros((1, 64, 64), bool)}, "bool"),
}


@pytest.mark.parametrize("name", BAD_PROMPTS)
def test_invalid_prompts_are_refused_in_one_line(name):
    prompt, message = BAD_PROMPTS[name]
    made = predictor()
    with pytest.raises(PromptError, match=message) as error:
        made.predict(**prompt)
    assert "\n" not in str(error.value)
    assert not made.backend.calls


BAD_BATCHES = {
    "different numbers": (
        {"point_coords": np.zeros((2, 1, 2)), "point_labels": np.ones((2, 1)), "boxes": [BOX]},
        "2, boxes 1",
    ),
    "masks too many": ({"boxes": [BOX], "mask_input": mask_prompts(2)}, "boxes 1, mask_input 2"),
    "points of one prompt": ({"point_coords": [[5, 5]], "point_labels": [1]}, r"\(B, N, 2\)"),
    "box of one prompt": ({"boxes": BOX}, r"\(B, 4\)"),
    "one of three boxes without area": ({"boxes": [BOX, [50, 50, 50, 90], BOX]}, r"boxes\[1\] \(50, 50, 50, 90\)"),
    "corner labels": ({"point_coords": [[[5, 5]]], "point_labels": [[3]]}, "0, 1, -1, -2"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_invalid_batches_are_refused(name):
    prompt, message = BAD_BATCHES[name]
    with pytest.raises(PromptError, match=message):
        predictor().predict_batch(**prompt)


@pytest.mark.parametrize(
    ("prompt", "needed"),
    [
        ({"point_coords": [[5, 5]] * 3, "point_labels": [1] * 3}, 4),
        ({"point_coords": [[5, 5]] * 2, "point_labels": [1] * 2, "box": BOX}, 4),
    ],
)
def test_more_points_than_slots_are_refused_with_the_remedy(prompt, needed):
    with pytest.raises(PromptError, match=rf"needs {needed} slots and this decoder has 3 .*--points {needed}$"):
        predictor(1, 3).predict(**prompt)


def test_points_on_the_edges_and_boxes_beyond_them_are_valid():
    made = predictor()
    made.predict([[0, 0], [192, 96]], [1, 1])
    made.predict(box=[-20, -20, 400, 300])
    np.testing.assert_allclose(made.backend.calls[1].coords[0], np.array([[-20, -20], [400, 300]]) * SCALE, rtol=1e-6)


BAD_IMAGES = {
    "floats": (np.zeros((5, 5, 3), np.float32), PhotoError, r"float32.*: \(image \* 255\)"),
    "16 bits": (np.zeros((5, 5, 3), np.uint16), PhotoError, r"uint16.*: \(image / 257\)"),
    "booleans": (np.zeros((5, 5, 3), bool), PhotoError, r"a bool array"),
    "greyscale": (np.zeros((5, 5), np.uint8), PhotoError, r"\(5, 5\);.*: np.stack"),
    "one channel": (np.zeros((5, 5, 1), np.uint8), PhotoError, r"\(5, 5, 1\);.*: np.repeat"),
    "RGBA": (np.zeros((5, 5, 4), np.uint8), PhotoError, r"\(5, 5, 4\);.*: image\[:, :, :3\]"),
    "channels first": (np.zeros((3, 5, 5), np.uint8), PhotoError, r"\(3, 5, 5\);.*: image.transpose"),
    "batch": (np.zeros((1, 5, 5, 3), np.uint8), PhotoError, r"\(1, 5, 5, 3\);.*: image\[0\]"),
    "five axes": (np.zeros((1, 1, 5, 5, 3), np.uint8), PhotoError, "as read_photo returns it$"),
    "a picture of Pillow": (Image.new("L", (5, 5)), PhotoError, r'type Image.*image.convert\("RGB"\)'),
    "a tensor": (torch.zeros((5, 5, 3), dtype=torch.uint8), PhotoError, r"type Tensor.*image.numpy\(\)"),
    "empty": (np.zeros((0, 5, 3), np.uint8), PhotoError, "5x0"),
    "too narrow": (np.zeros((1, 900, 3), np.uint8), PhotoError, "too narrow"),
    "a list": ([[[1, 2, 3]]], PhotoError, "type list"),
    "a path": ("photo.jpg", PhotoError, "type str.*read_photo"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_invalid_images_are_refused_and_the_previous_one_stays(name):
    image, kind, message = BAD_IMAGES[name]
    made = predictor()
    before = made.get_image_embedding()
    with pytest.raises(kind, match=message):
        made.set_image(image)
    assert made.original_size == SIZE
    np.testing.assert_array_equal(made.get_image_embedding(), before)


def test_an_unknown_channel_order_is_refused():
    with pytest.raises(UsageError, match="'HSV' is not one of RGB, BGR"):
        predictor().set_image(photo(), "HSV")


def test_the_previous_image_stays_when_the_engine_fails():
    made = predictor()

    def fail(image):
        raise RuntimeError("out of memory")

    made.backend.encode = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        made.set_image(photo((50, 50)))
    assert made.original_size == SIZE


@pytest.mark.parametrize("options", [{"threads": 2}, {"provider": "cpu"}])
def test_options_together_with_a_backend_are_refused(options):
    with pytest.raises(UsageError, match="no effect"):
        SamPredictor(bundle_without_files(), backend=NumpyBackend(), **options)


# Parity with segment_anything ---------------------------------------------------------------------------------------


class TorchBackend:
    """The modules of segment_anything as a backend; it drops empty slots."""

    def __init__(self, sam) -> None:
        self.sam = sam

    @torch.no_grad()
    def encode(self, image):
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
        return (self.sam.image_encoder((torch.from_numpy(image) - mean) / std).numpy(),)

    @torch.no_grad()
    def decode(self, features, point_coords, point_labels, mask_input, has_mask_input):
        used = point_labels[0] != -2
        assert (point_labels[:, ~used] == -2).all()
        assert (has_mask_input == has_mask_input[0]).all()
        coords, labels = (torch.from_numpy(array[:, used]) for array in (point_coords, point_labels))
        encoder = self.sam.prompt_encoder
        sparse = encoder._embed_points(coords, labels, pad=False)
        for corner in (2, 3):
            sparse[labels == corner] += encoder.point_embeddings[corner].weight
        if has_mask_input[0]:
            dense = encoder._embed_masks(torch.from_numpy(mask_input))
        else:
            dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(len(labels), -1, 16, 16)
        masks, scores = self.sam.mask_decoder.predict_masks(
            image_embeddings=torch.from_numpy(features[0]),
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        return Decoded(masks.numpy(), scores.numpy())


@pytest.fixture(scope="module")
def small_sam():
    parts = import_segment_anything().modeling
    torch.manual_seed(0)
    channels = 32
    transformer = parts.TwoWayTransformer(2, channels, num_heads=4, mlp_dim=64)
    return parts.Sam(
        parts.ImageEncoderViT(img_size=SIDE, embed_dim=32, depth=1, num_heads=2, out_chans=channels),
        parts.PromptEncoder(channels, (16, 16), (SIDE, SIDE), mask_in_chans=16),
        parts.MaskDecoder(transformer_dim=channels, transformer=transformer, iou_head_hidden_dim=32),
        PIXEL_MEAN,
        PIXEL_STD,
    ).eval()


@pytest.mark.parametrize("size", [(96, 192), (301, 97), (80, 80)])
@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize(
    "prompt",
    [
        {"point_coords": [[30, 60]], "point_labels": [1]},
        {"point_coords": [[30, 60], [70, 12.5]], "point_labels": [1, 0]},
        {"point_coords": np.zeros((0, 2)), "point_labels": np.zeros(0)},
        {"box": [-3, 10, 70, 75.5]},
        {"point_coords": [[30, 60]], "point_labels": [0], "box": [5, 10, 70, 75]},
        {"mask_input": mask_prompts(1)[0]},
        {"box": [5, 10, 70, 75], "mask_input": mask_prompts(1)[0]},
        {},
    ],
)
def test_results_equal_those_of_segment_anything(small_sam, prompt, multimask, size):
    ours = SamPredictor(bundle_without_files(), backend=TorchBackend(small_sam))
    reference = import_segment_anything().SamPredictor(small_sam)
    for one in (ours, reference):
        one.set_image(photo(size))
    arrays = {name: np.asarray(value) for name, value in prompt.items()}
    expected = reference.predict(**arrays, multimask_output=multimask, return_logits=True)
    result = ours.predict(**prompt, multimask_output=multimask, return_logits=True)
    assert ours.original_size == reference.original_size
    assert ours.input_size == reference.input_size
    np.testing.assert_allclose(ours.get_image_embedding(), reference.get_image_embedding().numpy(), atol=1e-5)
    for found, wanted in zip(result, expected, strict=True):
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        assert np.abs(found - wanted).max() <= 1e-4
