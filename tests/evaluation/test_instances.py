"""Masks from boxes: a stand-in that answers with the box, files of boxes and annotations, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from sam_edge.cli.app import run
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import open_source
from sam_edge.evaluation.detections import Detections, read_detections
from sam_edge.evaluation.ground_truth import Category, FileTruth, RecordTruth
from sam_edge.evaluation.instances import measure_instances, segment_boxes
from sam_edge.evaluation.proposals import measure_proposals
from sam_edge.prediction.promptable import AnyCapacity, Promptable
from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.errors import DataError
from tests.data.builders import encoded, picture, record, write_tar
from tests.runtime.automatic.discs import DiscBackend

SIDE = 256


class BoxBackend:
    """Fills the box. Output 0 of a first prompt is empty; outputs 1..3 reach 0, 8 and 16 pixels beyond the box.

    With a mask prompt output 0 is that mask where it lies in the box.
    """

    engine = "boxes"

    def __init__(self, favourite: int = 1) -> None:
        self.favourite = favourite
        self.calls: list[tuple[np.ndarray, ...]] = []

    def encode(self, image):
        return (np.zeros((1, 4, SIDE // 16, SIDE // 16), np.float32),)

    def decode(self, features, point_coords, point_labels, mask_input, has_mask_input):
        self.calls.append((point_coords, mask_input, has_mask_input))
        cells = np.arange(SIDE // 4) * 4 + 2.0
        (x0, y0), (x1, y1) = (point_coords[:, corner].T for corner in (0, 1))

        def inside(margin: float) -> np.ndarray:
            x = (cells >= x0[:, None] - margin) & (cells <= x1[:, None] + margin)
            y = (cells >= y0[:, None] - margin) & (cells <= y1[:, None] + margin)
            return np.where(y[:, :, None] & x[:, None, :], 8.0, -8.0)

        again = has_mask_input[:, None, None] > 0
        single = np.where(again, np.minimum(mask_input[:, 0], inside(0)), -8.0)
        low_res = np.stack([single, inside(0), inside(8), inside(16)], axis=1).astype(np.float32)
        predicted = np.full((len(point_coords), 4), 0.1, np.float32)
        predicted[:, self.favourite] = 0.9
        return Decoded(low_res, predicted)


def subject(backend) -> Promptable:
    return Promptable(backend, AnyCapacity((FrameSize.square(SIDE),)), {"model": "it", "runs as": "here"})


def masks_of(number: int) -> np.ndarray:
    masks = np.zeros((3, SIDE, SIDE), bool)
    masks[0, 32:96, 16 + 16 * number : 128] = True
    masks[1, 128:224, 128:200] = True
    masks[2, 8:24, 200:232] = True
    return masks


NAMES = {"sa_0": ["person", "dog", "dog"], "sa_1": ["person", "dog", None]}


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    files = []
    for number in range(2):
        document = record(masks_of(number))
        document["image"]["image_id"] = 70 + number
        files.append((f"sa_{number}.jpg", encoded(picture(number, (SIDE, SIDE)))))
        files.append((f"sa_{number}.json", json.dumps(document).encode()))
    (folder / "val.names.json").write_text(json.dumps(NAMES))
    return write_tar(folder / "val.tar", files)


def test_the_most_confident_mask_is_fed_back_with_its_box():
    backend = BoxBackend(favourite=2)
    boxes = Detections.of([([32, 64, 96, 64], 1, 0.5)])
    first, second = segment_boxes(subject(backend), picture(0, (SIDE, SIDE)), boxes)
    assert [call[2].tolist() for call in backend.calls] == [[0.0], [1.0]]
    assert backend.calls[0][0][0, :2].tolist() == backend.calls[1][0][0, :2].tolist() == [[32, 64], [128, 128]]
    area, grown = rle.area(second[0]), rle.area(first[0])
    assert area == pytest.approx(96 * 64, rel=0.02)
    assert grown == pytest.approx(112 * 80, rel=0.05)


def test_a_box_at_the_edge_or_without_extent_is_a_prompt_too():
    boxes = Detections.of([([-20, -20, 60, 60], 1, 0.5), ([100, 100, 0, 0], 1, 0.5), ([256, 256, 9, 9], 1, 0.5)])
    first, second = segment_boxes(subject(BoxBackend()), picture(0, (SIDE, SIDE)), boxes)
    assert (len(first), len(second)) == (3, 3)
    assert rle.area(second[0]) == pytest.approx(40 * 40, rel=0.1)


def test_masks_that_fill_their_boxes_are_right_and_grown_ones_are_not(shard):
    truth = RecordTruth(open_source(shard), named=True)
    assert [(each.number, each.name) for each in truth.categories] == [(1, "person"), (18, "dog")]
    found = measure_instances(subject(BoxBackend(favourite=3)), truth, "truth", SkipLog())
    figures = found.figures
    assert (figures.photos, figures.masks, figures.boxes, figures.rules) == (2, 5, 5, "COCO")
    assert figures.detector["AP"] == pytest.approx(1.0)
    assert figures.refined["AP"] > 0.9
    assert figures.first["AP"] < 0.6
    assert {each["image_id"] for each in found.masks} == {70, 71}
    for mask, box in zip(found.masks, found.boxes, strict=True):
        near = coco.toBbox(mask["segmentation"])
        np.testing.assert_allclose(near, box["bbox"], atol=2)
        assert isinstance(mask["segmentation"]["counts"], str)


def test_annotations_in_a_file_of_their_own(shard, tmp_path):
    """Polygons, a crowd and LVIS's lists; a photo that the file does not have, and one of another size."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        (photos / f"{number:012d}.jpg").write_bytes(encoded(picture(number, (SIDE, SIDE))))
    box = [16.0, 32.0, 112.0, 64.0]
    polygon = [[16, 32, 128, 32, 128, 96, 16, 96]]
    crowd = {"size": [SIDE, SIDE], "counts": [0, 128 * SIDE, 128 * SIDE]}
    images = [
        {"id": 5, "file_name": "000000000000.jpg", "height": SIDE, "width": SIDE},
        {"id": 6, "coco_url": "http://somewhere/val2017/000000000001.jpg", "height": SIDE, "width": 100},
    ]
    annotations = [
        {"id": 1, "image_id": 5, "category_id": 3, "segmentation": polygon, "bbox": box, "area": 7168, "iscrowd": 0},
        {"id": 2, "image_id": 5, "category_id": 3, "segmentation": crowd, "bbox": box, "area": 9, "iscrowd": 1},
    ]
    path = tmp_path / "instances.json"
    document = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "car"}]}
    path.write_text(json.dumps(document))
    truth, log = FileTruth(open_source(photos), path), SkipLog(1.0)
    found = measure_instances(subject(BoxBackend()), truth, "truth", log)
    assert (found.figures.photos, found.figures.boxes) == (1, 1)
    assert found.figures.refined["AP"] > 0.9
    assert [skip.key for skip in log.names] == ["000000000001"]
    images[0] |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    document["categories"][0]["frequency"] = "c"
    document["images"] = images[:1]
    path.write_text(json.dumps(document))
    figures = measure_instances(subject(BoxBackend()), FileTruth(open_source(photos), path), "truth", log).figures
    assert (figures.rules, figures.refined["AP common"]) == ("LVIS", figures.refined["AP"])
    discs = measure_proposals(subject(DiscBackend()), truth, {"points_per_side": 2}, log)
    assert (discs.photos, discs.masks, discs.recall["all"]) == (1, 2, 0.0)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "are no list"),
        ([3], "entry 0 of .* is a int"),
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}], "has no score"),
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, -1, 1], "score": 1}], "is no box"),
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1], "score": 1}], "is no box"),
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": float("nan")}], "is no box"),
        ([{"image_id": "1", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "is no box"),
        ([{"image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 1}], r"category 2, .* theirs are 1 \(cat\)"),
    ],
)
def test_files_of_boxes_are_checked(document, says, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=says):
        read_detections(tmp_path / "boxes.json", [Category(1, "cat")])


def test_the_command_writes_masks_and_boxes_that_it_reads_again(shard, tmp_path, capsys):
    command = ["evaluate", "--input-size", "256", "--protocol", "instances", "--data", str(shard)]
    assert run([*command, "--boxes", "truth", "--out", str(tmp_path / "a")]) == 0
    assert "box AP of the detector" in capsys.readouterr().out
    again = [*command, "--boxes", str(tmp_path / "a" / "boxes.json"), "--out", str(tmp_path / "b")]
    assert run(again) == 0
    assert run([*again, "--overwrite"]) == 0
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in "ab"]
    assert reports[0]["instances"] == reports[1]["instances"]
    assert reports[0]["instances"][0]["detector"]["AP"] == pytest.approx(1.0)
    masks = [json.loads((tmp_path / name / "instances.json").read_text()) for name in "ab"]
    assert masks[0] == masks[1]
    assert len(masks[0]) == 5
    assert "instance segmentation" in (tmp_path / "b" / "report.html").read_text()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--protocol", "instances"), "needs --boxes"),
        (("--boxes", "truth"), "--boxes is for --protocol instances only"),
        (("--protocol", "instances", "--boxes", "nowhere.json"), "cannot read the boxes nowhere.json"),
        (("--protocol", "instances", "--boxes", "b.json", "--data", "other.tar"), "--boxes names one file"),
        (("--annotations", "a.json"), "--annotations is for --protocol instances and proposals"),
        (("--protocol", "proposals", "--annotations", "nowhere.json"), "cannot read the annotations nowhere.json"),
        (("--protocol", "proposals", "--points-per-side", "0"), "points_per_side 0"),
    ],
)
def test_bad_input_gives_one_line(more, says, shard, tmp_path, capsys):
    command = ["evaluate", "--input-size", "256", "--data", str(shard), "--out", str(tmp_path / "report")]
    assert run([*command, *more]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not (tmp_path / "report").exists()


def test_without_names_there_is_no_average_precision(shard, tmp_path, capsys):
    alone = tmp_path / "alone.tar"
    alone.write_bytes(shard.read_bytes())
    command = ["evaluate", "--protocol", "instances", "--boxes", "truth", "--data", str(alone)]
    assert run([*command, "--input-size", "256", "--out", str(tmp_path / "report")]) == 2
    assert "alone.names.json" in capsys.readouterr().err
