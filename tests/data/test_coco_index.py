"""COCO and LVIS are read entry by entry, whatever their order and layout, and damaged files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sam_edge.data import coco_index
from sam_edge.data.coco_index import CocoIndex
from sam_edge.data.foreign import records_by_photo
from sam_edge.data.sa1b import parse_record
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import open_source
from sam_edge.data.stream import walk
from sam_edge_runtime.errors import DataError
from tests.data.builders import rectangles
from tests.datasets.builders import NAMES, coco_document, write_coco


def written(path: Path, document: object, **options) -> Path:
    path.write_text(json.dumps(document, **options), "utf-8")
    return path


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_the_records_are_those_of_the_whole_document(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr(coco_index, "_CHUNK", chunk)
    document = coco_document(3, "uncompressed")
    path = written(tmp_path / "a.json", document, indent=indent)
    assert dict(CocoIndex(path)) == records_by_photo(document)


def test_members_may_come_in_any_order(tmp_path):
    document = coco_document(4)
    expected = records_by_photo(document)
    for names in (["annotations", "categories", "images"], ["images", "info", "annotations", "categories"]):
        path = written(tmp_path / "a.json", {name: document[name] for name in names})
        assert dict(CocoIndex(path)) == expected


@pytest.mark.parametrize("ascii_only", [True, False])
def test_names_of_any_script_survive(tmp_path, ascii_only):
    document = coco_document(1)
    document["images"][0]["file_name"] = "Straße_中.jpg"
    document["categories"][0]["name"] = "猫 é"
    index = CocoIndex(written(tmp_path / "a.json", document, ensure_ascii=ascii_only))
    assert list(index) == ["Straße_中.jpg"]
    assert {each["name"] for each in index["Straße_中.jpg"]["annotations"]} == {"猫 é", *NAMES[1:]}


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(coco_document(2)).encode())
    assert dict(CocoIndex(path)) == records_by_photo(coco_document(2))


def test_lvis_names_photos_by_their_addresses(tmp_path):
    document = coco_document(2)
    for image in document["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image.pop('file_name')}"
    path = written(tmp_path / "lvis.json", document)
    source = open_source(path, photos_needed=False)
    record = parse_record(source.read(1, record_only=True).record)
    assert source.record_name(1)[1] == "sa_1"
    assert sorted(each.name for each in record.annotations) == sorted(NAMES)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"images": []}',
        b'{"images": [], "annotations": {}}',
        b'{"images": [1, "annotations": []}',
        b'{"images": [{"id": 1}, "annotations": [{"id": 2',
        b'{"images": [], "annotations": []',
        b'{"images": [], "annotations": [' + b"[" * 100_000,
        b'{"images": [{"file_name": "\xff"}], "annotations": []}',
    ],
)
def test_other_and_damaged_documents_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are json's and ours
        CocoIndex(tmp_path / "a.json")
    with pytest.raises(DataError, match="describes no photos"):
        open_source(tmp_path / "a.json", photos_needed=False)


def test_damaged_entries_break_only_their_own_record(tmp_path):
    document = coco_document(3)
    document["images"] += [None, {"id": 99}]
    document["annotations"] += [7, {"image_id": 12345}, {"image_id": 3, "segmentation": "no"}]
    source = open_source(written(tmp_path / "a.json", document), photos_needed=False)
    assert len(source) == 3
    sound = [parse_record(source.read(number, record_only=True).record) for number in (1, 2)]
    assert [len(each.annotations) for each in sound] == [3, 3]


def test_photos_lie_beside_the_file_or_in_a_folder_beside_it(tmp_path):
    path = write_coco(tmp_path / "set" / "annotations" / "instances_val2017.json", 2)
    expected = [rectangles(seed) for seed in range(2)]
    for folder in (path.parent, path.parent.parent / "val2017", path.parent.parent / "images"):
        folder.mkdir(exist_ok=True)
        for photo in sorted((tmp_path / "set").rglob("*.jpg")):
            photo.rename(folder / photo.name)
        samples = list(walk(open_source(path), SkipLog()))
        for sample, masks in zip(samples, expected, strict=True):
            assert sorted(sample.masks().sum(axis=(1, 2))) == sorted(masks.sum(axis=(1, 2)))
            assert np.array_equal(sample.masks().any(axis=0), masks.any(axis=0))


def test_a_folder_with_one_such_file_stands_for_it(tmp_path):
    path = write_coco(tmp_path / "set" / "a.json", 2)
    (path.parent / "images").mkdir()
    for photo in path.parent.glob("*.jpg"):
        photo.rename(path.parent / "images" / photo.name)
    assert len(list(walk(open_source(path.parent), SkipLog()))) == 2


def test_photos_that_are_elsewhere_are_missed_at_once(tmp_path):
    path = written(tmp_path / "a.json", coco_document(2))
    with pytest.raises(DataError, match="not beside it"):
        open_source(path)
