"""Automatic masks equal those of the reference's generator with the same network, on photos."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prediction.promptable import AnyCapacity
from sam_edge.weights.load import find_source, load_sam
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.grids import generate_crops, layer_grids
from sam_edge_runtime.automatic.nms import nms
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.errors import PhotoError, UsageError
from sam_edge_runtime.predictor import SamPredictor
from tests.reference import batched_nms, import_segment_anything
from tests.reference_generator import reference_generator
from tests.runtime.standin import NumpyBackend, manifest

# nano's scores are lower than those of the models that the defaults were chosen for.
LENIENT = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.5, "stability_score_offset": 0.5}
CASES = {
    "photo": ("coffee", {"points_per_side": 10}),
    "few at a time": ("coffee", {"points_per_side": 5, "points_per_batch": 7}),
    "crops": ("chelsea", {"points_per_side": 6, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2}),
    "small regions": ("coffee", {"points_per_side": 6, "min_mask_region_area": 150}),
    "grids": ("coffee", {"points_per_side": None, "point_grids": [np.random.default_rng(2).random((30, 2))]}),
    "all of them": (
        "chelsea",
        {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0},
    ),
}


@pytest.fixture(scope="module")
def nano():
    return load_sam("nano", find_source("nano", None), None).sam


def make_generator(sam, **keywords) -> AutomaticMaskGenerator:
    return AutomaticMaskGenerator.from_backend(
        TorchBackend(sam), AnyCapacity((FrameSize.square(sam.side),)), AutomaticSettings(**keywords)
    )


def photo(name: str) -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(getattr(data, name)())


@pytest.mark.parametrize("case", CASES)
def test_records_equal_the_reference(nano, case):
    name, keywords = CASES[case]
    keywords = {**LENIENT, **keywords, "output_mode": "uncompressed_rle"}
    records = make_generator(nano, **keywords).generate(photo(name))
    expected = reference_generator(nano, **keywords).generate(photo(name))
    assert len(expected) > 1
    assert len(records) == len(expected)
    for mine, theirs in zip(records, expected, strict=True):
        assert mine.keys() == theirs.keys()
        np.testing.assert_allclose(mine["point_coords"], theirs["point_coords"], rtol=1e-12)
        assert mine["crop_box"] == theirs["crop_box"]
        assert np.abs(np.subtract(mine["bbox"], theirs["bbox"])).max() <= 1
        assert mine["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-4)
        assert mine["stability_score"] == pytest.approx(theirs["stability_score"], abs=1e-3, nan_ok=True)
        a, b = (rle.decode(one["segmentation"]) for one in (mine, theirs))
        assert np.count_nonzero(a & b) >= 0.99 * np.count_nonzero(a | b)
        assert mine["area"] == np.count_nonzero(a)


def test_the_three_output_modes_give_the_same_masks(nano):
    binary, uncompressed, compressed = (
        make_generator(nano, **LENIENT, points_per_side=4, output_mode=mode).generate(photo("coffee"))
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    )
    assert binary
    for mask, plain, coco in zip(binary, uncompressed, compressed, strict=True):
        np.testing.assert_array_equal(rle.decode(plain["segmentation"]), mask["segmentation"])
        assert coco["segmentation"] == rle.encode(mask["segmentation"])


def test_several_photos_give_in_order_what_each_gives_alone(nano):
    photos = [photo("coffee"), photo("chelsea"), photo("coffee")[:200]]
    generator = make_generator(nano, **LENIENT, points_per_side=4, output_mode="coco_rle")
    assert list(generator.generate_many(iter(photos))) == [generator.generate(each) for each in photos]


def test_covered_parts_get_no_masks(nano):
    cup = photo("coffee")
    generator = make_generator(nano, **LENIENT, points_per_side=8)
    records = generator.generate(cup)
    largest = max((record["segmentation"] for record in records), key=np.count_nonzero)
    rest = generator.generate(cup, covered=largest)
    assert 0 < len(rest) < len(records)
    for record in rest:
        x, y = record["point_coords"][0]
        assert not largest[int(y), int(x)]
        assert 2 * np.count_nonzero(record["segmentation"] & largest) <= record["area"]
    assert generator.generate(cup, covered=np.ones(cup.shape[:2], np.bool_)) == []


def test_no_masks_are_an_empty_list(nano):
    assert make_generator(nano, points_per_side=2, pred_iou_thresh=1.0).generate(photo("coffee")) == []


def test_points_fill_the_capacity_of_the_decoder():
    backend = NumpyBackend()
    bundle = Bundle(None, manifest(prompts=8, points=3))
    generator = AutomaticMaskGenerator(SamPredictor(bundle, backend=backend), points_per_side=5, points_per_batch=20)
    generator.generate(np.zeros((20, 30, 3), np.uint8))
    assert {call.coords.shape for call in backend.calls} == {(8, 3, 2)}
    points = np.concatenate([call.coords[call.labels[:, 0] == 1][:, 0] for call in backend.calls])
    assert len(np.unique(points, axis=0)) == 25


@pytest.mark.parametrize(("size", "layers"), [((375, 562), 2), ((100, 30), 1), ((64, 64), 3)])
def test_crops_and_grids_equal_the_reference(size, layers):
    import_segment_anything()
    amg = import_module("segment_anything.utils.amg")
    boxes, layer_of = amg.generate_crop_boxes(size, layers, 512 / 1500)
    crops = generate_crops(size, layers, 512 / 1500)
    assert [list(crop.box) for crop in crops] == boxes
    assert [crop.layer for crop in crops] == layer_of
    for mine, theirs in zip(layer_grids(17, layers, 2), amg.build_all_layer_point_grids(17, layers, 2), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-15)


def test_nms_equals_the_stand_in_for_torchvision():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (300, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 40, (300, 2))], axis=1)
    scores = rng.integers(0, 30, 300).astype(np.float32) / 30  # ties too
    for threshold in (0.0, 0.3, 0.7, 1.0):
        expected = batched_nms(torch.from_numpy(boxes).float(), torch.from_numpy(scores), torch.zeros(300), threshold)
        assert nms(boxes, scores, threshold).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"points_per_side": None}, "points_per_side and point_grids are both None"),
        ({"point_grids": [[[0.5, 0.5]]]}, "give points_per_side=None with point_grids"),
        ({"points_per_side": 0}, "points_per_side 0 is out of range"),
        ({"points_per_batch": 0}, "points_per_batch 0"),
        ({"pred_iou_thresh": 1.2}, "pred_iou_thresh 1.2"),
        ({"stability_score_thresh": float("nan")}, "stability_score_thresh nan"),
        ({"stability_score_offset": -1.0}, "stability_score_offset -1.0"),
        ({"crop_overlap_ratio": 1.0}, "crop_overlap_ratio 1 is out of range"),
        ({"points_per_side": 30_000}, "points_per_side 30000 is out of range: use 1 to 1024"),
        ({"crop_n_layers": 100_000_000}, "crop_n_layers 100000000 is out of range: use 0 to 6"),
        ({"points_per_batch": 2**63}, "points_per_batch 9223372036854775808 is out of range"),
        ({"points_per_side": 32.0}, "points_per_side 32.0 is no integer"),
        ({"points_per_side": "32"}, "points_per_side '32' is no integer"),
        ({"crop_n_layers": True}, "crop_n_layers True is no integer"),
        ({"pred_iou_thresh": None}, "pred_iou_thresh None is no number"),
        ({"box_nms_thresh": [0.7]}, "box_nms_thresh .* is no number"),
        ({"output_mode": ["coco_rle"]}, "output_mode .* is not one of"),
        ({"points_per_side": None, "point_grids": 3}, "point_grids is a int"),
        ({"points_per_side": None, "point_grids": [[["a", "b"]]]}, "point grid 0 is no array of numbers"),
        ({"crop_n_layers": 3, "points_per_side": 4, "crop_n_points_downscale_factor": 2}, "ends without a point"),
        ({"points_per_side": None, "point_grids": [[[0.5, 0.5]]], "crop_n_layers": 1}, "too few"),
        ({"points_per_side": None, "point_grids": [[[0.5, 1.5]]]}, "give x and y from 0 to 1"),
        ({"points_per_side": None, "point_grids": [[0.5, 0.5]]}, "give x, y pairs"),
        ({"output_mode": "polygon"}, "output_mode 'polygon'"),
        ({"points_a_side": 3}, "no setting 'points_a_side'"),
    ],
)
def test_invalid_settings_are_refused(keywords, message):
    predictor = SamPredictor(Bundle(None, manifest()), backend=NumpyBackend())
    with pytest.raises(UsageError, match=message):
        AutomaticMaskGenerator(predictor, **keywords)


def test_an_array_that_is_no_photo_is_refused(nano):
    generator = make_generator(nano, points_per_side=2)
    with pytest.raises(PhotoError, match="float64"):
        generator.generate(np.zeros((20, 30, 3)))
    with pytest.raises(UsageError, match=r"give bool of shape \(20, 30\)"):
        generator.generate(np.zeros((20, 30, 3), np.uint8), covered=np.zeros((30, 20), np.bool_))
