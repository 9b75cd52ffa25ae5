"""Label pictures of BSDS500, Pascal VOC and Cityscapes are masks with names."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sam_edge.data.sa1b import Record, parse_record
from sam_edge.data.skips import BrokenRecordError, SkipLog
from sam_edge.data.sources import open_source
from sam_edge.data.stream import walk
from sam_edge_runtime.automatic import rle
from tests.data.builders import SIZE, encoded, picture


def labels_of(dtype=np.uint8) -> np.ndarray:
    """Index 1 in the upper left quarter, 2 in the lower right one."""
    labels = np.zeros(SIZE, dtype)
    labels[:15, :20], labels[15:, 20:] = 1, 2
    return labels


def png(labels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(labels).save(file, "PNG")
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def records_of(folder: Path) -> list[Record]:
    source = open_source(folder, photos_needed=False)
    return [parse_record(source.read(number, record_only=True).record) for number in range(len(source))]


def told(record: Record) -> list[tuple[str | None, bool, int]]:
    return [(each.name, each.crowd, each.area) for each in record.annotations]


def write_bsds(folder: Path, *annotators: np.ndarray) -> Path:
    write(folder / "images" / "test" / "7.jpg", encoded(picture(0)))
    cells = np.empty((1, len(annotators)), object)
    for index, labels in enumerate(annotators):
        cells[0, index] = {"Segmentation": labels.astype(np.uint16), "Boundaries": labels > 0}
    (folder / "groundTruth" / "test").mkdir(parents=True)
    savemat(folder / "groundTruth" / "test" / "7.mat", {"groundTruth": cells})
    return folder


def test_bsds_gives_the_regions_of_the_first_annotator(tmp_path):
    folder = write_bsds(tmp_path / "BSDS500", labels_of() + 1, np.ones(SIZE, np.uint8))
    for what in (folder, folder / "images" / "test"):
        (record,) = records_of(what)
        assert told(record) == [(None, False, 600), (None, False, 300), (None, False, 300)]
        assert np.array_equal(rle.decode(record.annotations[1].rle), labels_of() == 1)
    (sample,) = walk(open_source(folder), SkipLog())
    assert sample.masks().sum(axis=0).tolist() == np.ones(SIZE, int).tolist()


def test_voc_gives_objects_with_the_names_of_their_classes(tmp_path):
    objects = labels_of()
    objects[0, 0] = objects[14, 19] = 255  # void
    classes = np.where(objects == 1, 8, np.where(objects == 2, 15, objects)).astype(np.uint8)
    write(tmp_path / "SegmentationObject" / "a.png", png(objects))
    write(tmp_path / "SegmentationClass" / "a.png", png(classes))
    (record,) = records_of(tmp_path)
    assert told(record) == [("cat", False, 298), ("person", False, 300)]
    write(tmp_path / "SegmentationClass" / "a.png", png(classes[:-1]))
    with pytest.raises(BrokenRecordError, match="differ in size"):
        open_source(tmp_path).read(0)


def test_voc_without_classes_has_masks_without_names(tmp_path):
    write(tmp_path / "SegmentationObject" / "a.png", png(labels_of()))
    assert told(records_of(tmp_path)[0]) == [(None, False, 300), (None, False, 300)]


def test_cityscapes_gives_objects_groups_and_no_surfaces(tmp_path):
    ids = labels_of(np.uint16)
    ids[:15, :20], ids[15:, 20:], ids[15:, :20] = 26001, 24, 7  # a car, a group of people, the road
    write(tmp_path / "gtFine" / "val" / "ulm" / "ulm_1_gtFine_instanceIds.png", png(ids))
    write(tmp_path / "leftImg8bit" / "val" / "ulm" / "ulm_1_leftImg8bit.png", encoded(picture(0), "PNG"))
    (record,) = records_of(tmp_path)
    assert sorted(told(record)) == [("car", False, 300), ("person", True, 300)]
    (sample,) = walk(open_source(tmp_path), SkipLog())
    assert len(sample.rles) == 2


def test_classes_may_have_names_of_their_own(tmp_path):
    ids = labels_of(np.uint16)
    ids[ids > 0] += 40_000
    write(tmp_path / "gtFine" / "all" / "all" / "a_gtFine_instanceIds.png", png(ids))
    write(tmp_path / "categories.json", json.dumps({"40": "kite"}).encode())
    assert told(records_of(tmp_path)[0]) == [("kite", False, 300), ("kite", False, 300)]


@pytest.mark.parametrize("content", [b"", b"no picture", png(np.zeros((*SIZE, 3), np.uint8)), png(labels_of())[:-30]])
def test_damaged_pictures_are_broken_records(tmp_path, content):
    write(tmp_path / "SegmentationObject" / "a.png", content)
    with pytest.raises(BrokenRecordError, match=r"a\.png"):
        open_source(tmp_path).read(0)


@pytest.mark.parametrize("content", [b"", b"no mat", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_damaged_ground_truth_is_a_broken_record(tmp_path, content):
    folder = write_bsds(tmp_path / "BSDS500", labels_of())
    (folder / "groundTruth" / "test" / "7.mat").write_bytes(content)
    with pytest.raises(BrokenRecordError, match=r"7\.mat"):
        open_source(folder).read(0)
