"""What code written for segment_anything finds on the predictor: attributes, the transform, embeddings put back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sam_edge_runtime import AutomaticMaskGenerator
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.conventions import SAM_2
from sam_edge_runtime.errors import PhotoError, UsageError
from sam_edge_runtime.predictor import SamPredictor
from tests.reference import import_segment_anything
from tests.runtime.standin import CHANNELS, SIDE, NumpyBackend, bundle_without_files, manifest

SIZES = [(96, 192), (301, 97), (80, 80), (1, 3)]


def photo(size: tuple[int, int] = (96, 192)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def predictor() -> SamPredictor:
    return SamPredictor(bundle_without_files(), backend=NumpyBackend())


@pytest.mark.parametrize("size", SIZES)
def test_the_transform_equals_the_references(size):
    ours = predictor().transform
    theirs = import_segment_anything().utils.transforms.ResizeLongestSide(SIDE)
    height, width = size
    assert ours.target_length == theirs.target_length
    image = ours.apply_image(photo(size))
    np.testing.assert_array_equal(image, theirs.apply_image(photo(size)))
    assert ours.get_preprocess_shape(height, width, SIDE) == image.shape[:2]
    assert ours.get_preprocess_shape(height, width, SIDE) == theirs.get_preprocess_shape(height, width, SIDE)
    coords = np.random.default_rng(1).uniform(-5, 400, (3, 2, 2))
    boxes = coords.reshape(3, 4)
    for found, wanted in (
        (ours.apply_coords(coords, size), theirs.apply_coords(coords, size)),
        (ours.apply_coords(coords[0, 0], size), theirs.apply_coords(coords[0, 0], size)),
        (ours.apply_coords(coords.astype(int), size), theirs.apply_coords(coords.astype(int), size)),
        (ours.apply_boxes(boxes, size), theirs.apply_boxes(boxes, size)),
        (ours.apply_boxes(boxes[0], size), theirs.apply_boxes(boxes[0], size)),
    ):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_the_transform_leaves_what_it_is_given():
    boxes = np.array([[1.0, 2.0, 3.0, 4.0]])
    predictor().transform.apply_boxes(boxes, (96, 192))
    assert boxes.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), "photo.jpg"])
def test_the_transform_refuses_what_is_no_photo(image):
    with pytest.raises(UsageError, match=r"\(5, 5|None"):
        predictor().transform.apply_image(image)


def test_device_is_one_that_torch_takes():
    assert torch.zeros(1, device=predictor().device).device == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("model", "bundle.manifest"),
        ("set_torch_image", r"set_image\(photo\)"),
        ("predict_torch", r"predict_batch\(.*boxes"),
        ("no_such_name", "'SamPredictor' object has no attribute 'no_such_name'"),
    ],
)
def test_names_that_need_torch_name_their_replacement(name, remedy):
    assert not hasattr(predictor(), name)
    with pytest.raises(AttributeError, match=f"{name}.*{remedy}|{remedy}"):
        getattr(predictor(), name)


@pytest.mark.parametrize("name", ["apply_image_torch", "apply_coords_torch", "apply_boxes_torch"])
def test_the_transforms_torch_twins_name_their_replacement(name):
    with pytest.raises(AttributeError, match=rf"use {name.removesuffix('_torch')}\("):
        getattr(predictor().transform, name)


def test_features_follow_the_photo_as_in_the_reference():
    made = predictor()
    assert made.features is None
    made.set_image(photo())
    np.testing.assert_array_equal(made.features, made.get_image_embedding())


@pytest.mark.parametrize("name", ["features", "original_size", "input_size", "is_image_set"])
def test_state_is_not_set_piece_by_piece(name):
    with pytest.raises(AttributeError, match=rf"^{name} cannot be set alone: set_image_embedding\("):
        setattr(predictor(), name, None)


def test_an_embedding_put_back_gives_the_same_masks(tmp_path):
    first, second = predictor(), predictor()
    first.set_image(photo())
    np.save(tmp_path / "embedding.npy", first.get_image_embedding())
    kept = np.load(tmp_path / "embedding.npy")
    second.set_image_embedding(kept, first.original_size)
    kept[:] = 0  # what is set is a copy
    assert second.is_image_set
    assert not second.backend.images
    assert (second.original_size, second.input_size) == (first.original_size, first.input_size)
    prompt = {"point_coords": [[30, 60]], "point_labels": [1], "return_logits": True}
    for found, wanted in zip(second.predict(**prompt), first.predict(**prompt), strict=True):
        np.testing.assert_array_equal(found, wanted)


GOOD = np.zeros((1, CHANNELS, 16, 16), np.float32)
BAD_EMBEDDINGS = {
    "another shape": (GOOD[:, :, :8], (96, 192), r"float32 array of shape \(1, 3, 8, 16\).*shape \(1, 3, 16, 16\)"),
    "another dtype": (GOOD.astype(np.float64), (96, 192), "float64"),
    "a tensor": (torch.from_numpy(GOOD), (96, 192), "type Tensor"),
    "NaN": (np.full_like(GOOD, np.nan), (96, 192), "not finite"),
    "one number": (GOOD, 96, "no pair of integers"),
    "three numbers": (GOOD, (96, 192, 3), "no pair of integers"),
    "fractions": (GOOD, (96.0, 192.5), "no pair of integers"),
}


@pytest.mark.parametrize("name", BAD_EMBEDDINGS)
def test_bad_embeddings_are_refused_and_the_photo_stays(name):
    embedding, size, says = BAD_EMBEDDINGS[name]
    made = predictor()
    made.set_image(photo())
    with pytest.raises(UsageError, match=says) as error:
        made.set_image_embedding(embedding, size)
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(made.get_image_embedding(), *made.backend.encode(made.backend.images[0]))


def test_an_embedding_of_an_empty_photo_is_refused():
    with pytest.raises(PhotoError, match="0x96"):
        predictor().set_image_embedding(GOOD, (96, 0))


def test_grids_beside_points_a_side_are_refused_with_the_remedy_where_the_reference_asserts(small_reference):
    grids = [np.array([[0.5, 0.5]])]
    with pytest.raises(AssertionError):
        import_segment_anything().SamAutomaticMaskGenerator(small_reference, point_grids=grids)
    with pytest.raises(UsageError, match="give points_per_side=None with point_grids"):
        AutomaticMaskGenerator(predictor(), point_grids=grids)
    with pytest.raises(UsageError, match="both None"):
        AutomaticMaskGenerator(predictor(), points_per_side=None)
    assert AutomaticMaskGenerator(predictor(), points_per_side=None, point_grids=grids).settings.point_grids is grids


@pytest.fixture
def small_reference():
    """Enough of the reference's model for its generator to be made."""
    return torch.nn.Module()


def test_the_generator_keeps_its_predictor():
    made = predictor()
    assert AutomaticMaskGenerator(made).predictor is made


def test_a_model_that_stretches_photos_names_what_to_do_without_transform():
    made = SamPredictor(Bundle(Path("nowhere"), manifest(conventions=SAM_2)), backend=NumpyBackend())
    assert not hasattr(made, "transform")
    with pytest.raises(AttributeError, match="this model stretches photos: give set_image the photo"):
        _ = made.transform
