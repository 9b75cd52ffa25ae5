"""SA-1B's record: parsing, refusals, and the filter for masks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco

from sam_edge.data.sa1b import MaskFilter, bbox_of, parse_record
from sam_edge.data.skips import BrokenRecordError
from sam_edge_runtime.errors import DataError, UsageError
from tests.data.builders import SIZE, picture, record, rectangles, rle_of, sample
from tests.data.real import real_data
from tests.reference import reference_bbox

PIXELS = SIZE[0] * SIZE[1]


def parsed(masks: np.ndarray, **changes):
    return parse_record(json.dumps(record(masks, **changes)).encode())


def test_parsed_masks_equal_the_written_ones():
    masks = rectangles(0, 5)
    result = parsed(masks)
    assert result.size == SIZE
    assert [annotation.area for annotation in result.annotations] == masks.sum(axis=(1, 2)).tolist()
    again = sample(picture(0), masks)
    assert [annotation.rle for annotation in result.annotations] == list(again.rles)
    np.testing.assert_array_equal(again.masks(), masks)
    np.testing.assert_array_equal(again.masks([3, 1]), masks[[3, 1]])
    assert again.masks().dtype == np.bool_
    assert again.masks([]).shape == (0, *SIZE)


def test_decoding_equals_pycocotools():
    masks = np.random.default_rng(0).random((4, 37, 23)) < np.array([0.01, 0.3, 0.7, 1.0])[:, None, None]
    ours = sample(np.zeros((37, 23, 3), np.uint8), masks)
    theirs = coco.decode([rle_of(mask) for mask in masks])
    np.testing.assert_array_equal(ours.masks(), theirs.transpose(2, 0, 1).astype(bool))


def test_boxes_enclose_the_masks():
    masks = rectangles(3, 4)
    boxes = sample(picture(3), masks).boxes()
    for mask, box in zip(masks, boxes.tolist(), strict=True):
        y, x = np.nonzero(mask)
        assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert sample(picture(3), masks[:0]).boxes().shape == (0, 4)


@pytest.mark.parametrize("first", [False, True])
def test_uncompressed_counts_equal_compressed_ones(first):
    mask = rectangles(1, 1)[0]
    mask[0, 0] = first
    lengths = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], mask.T.ravel(), [2]]))))
    counts = ([0] if first else []) + lengths.tolist()
    result = parsed(mask[None], segmentation={"size": list(SIZE), "counts": counts})
    assert result.annotations[0].rle == rle_of(mask)
    assert result.annotations[0].area == mask.sum()


def test_the_fields_of_an_annotation_are_read():
    annotation = parsed(rectangles(0, 1), bbox=[1, 2.5, 3, 4]).annotations[0]
    assert annotation.bbox == (1.0, 2.5, 3.0, 4.0)
    assert annotation.crop_box == (0.0, 0.0, 40.0, 30.0)
    assert annotation.point_coords == ((1.5, 2.5),)
    assert (annotation.predicted_iou, annotation.stability_score) == (0.9, 0.95)


def test_optional_fields_may_be_missing():
    content = record(rectangles(0, 1))
    content["annotations"] = [{"segmentation": content["annotations"][0]["segmentation"]}]
    annotation = parse_record(json.dumps(content).encode()).annotations[0]
    assert annotation.bbox is None
    assert annotation.predicted_iou == annotation.stability_score == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_of_a_windows_editor_is_read(encoding):
    text = json.dumps(record(rectangles(0)), indent=1).replace("\n", "\r\n")
    assert parse_record(text.encode(encoding)) == parsed(rectangles(0))


def test_areas_are_counted_whatever_the_record_says():
    assert parsed(rectangles(0, 1), area=7).annotations[0].area == rectangles(0, 1).sum()


@pytest.mark.parametrize("convert", [float, str, lambda value: f" {value}.0"])
def test_numbers_may_be_written_as_floats_or_text(convert):
    content = record(rectangles(0), predicted_iou="0.9", bbox=["1", 2, 3.0, 4])
    wanted = parse_record(json.dumps(content).encode())
    content["image"] |= {"width": convert(40), "height": convert(30)}
    for annotation in content["annotations"]:
        annotation["segmentation"]["size"] = [convert(30), convert(40)]
    assert parse_record(json.dumps(content).encode()) == wanted
    lengths = [600.0, 300.0, 300.0]
    counts = {"size": [30.0, 40.0], "counts": lengths}
    assert parsed(rectangles(0, 1), segmentation=counts).annotations[0].area == 300


def test_fields_may_be_null():
    names = ("predicted_iou", "stability_score", "point_coords", "crop_box", "bbox")
    annotation = parsed(rectangles(0, 1), **dict.fromkeys(names)).annotations[0]
    assert (annotation.predicted_iou, annotation.stability_score, annotation.point_coords) == (1, 1, ())


def test_counts_that_python_printed_as_bytes_are_read():
    mask = (np.arange(PIXELS) // 76 == 1).reshape(SIZE[::-1]).T  # a first run of 76 has a backslash in its encoding
    counts = rle_of(mask)["counts"]
    quoted = str(counts.encode())
    assert "\\\\" in quoted
    assert (
        parsed(mask[None], segmentation={"size": list(SIZE), "counts": quoted}).annotations[0].rle["counts"] == counts
    )


def rle(**changes) -> dict:
    return {"segmentation": {"size": list(SIZE), "counts": rle_of(rectangles(0, 1)[0])["counts"], **changes}}


def tight(**changes) -> dict:
    return {"segmentation": {"rle": [0, 5], "left": 3, "top": 4, "width": 5, "height": 1, **changes}}


BROKEN = {
    "no JSON": (b"photo", "truncated or damaged"),
    "cut off": (json.dumps(record(rectangles(0))).encode()[:200], "truncated or damaged"),
    "no UTF-8": (b'{"image": "\xff\xfe"}', "truncated or damaged"),
    "nested without end": (b"[" * 100_000, "truncated or damaged"),
    "a list": (b"[]", "an object 'image'"),
    "no annotations": (b'{"image": {"width": 4, "height": 3}}', "an object 'image'"),
    "no width": (b'{"image": {"height": 3}, "annotations": []}', "width None"),
    "a width of text": (b'{"image": {"height": 3, "width": "four"}, "annotations": []}', "width 'four'"),
    "a width of a fraction": (b'{"image": {"height": 3, "width": 4.5}, "annotations": []}', r"width 4\.5"),
    "sides that no photo has": (
        b'{"image": {"height": 1000000, "width": 1000000}, "annotations": []}',
        "more pixels than any photo may have",
    ),
    "a height of 0": (b'{"image": {"height": 0, "width": 4}, "annotations": []}', "height 0"),
    "an annotation of text": (b'{"image": {"height": 3, "width": 4}, "annotations": ["a"]}', "annotation 0 is a str"),
}
BROKEN_FIELDS = {
    "no segmentation": ({"segmentation": None}, "NoneType; SA-1B's are RLEs"),
    "a polygon of two corners": ({"segmentation": [[1.0, 2.0, 3.0, 4.0]]}, "4 numbers: x, y of at least three"),
    "a polygon of text": ({"segmentation": [["a", 2, 3, 4, 5, 6]]}, "'a' stands"),
    "a polygon far away": ({"segmentation": [[1, 2, 3, 4, 5, 1e9]]}, "far outside"),
    "a polygon without end": ({"segmentation": [[0, 0, 39, 0, 39, 29] * 1000]}, "outline is longer"),
    "no polygon": ({"segmentation": []}, "empty list"),
    "a tight RLE beyond the photo": (tight(left=36), "5x1 pixels at 36, 4 reaches beyond"),
    "a tight RLE that is too short": (tight(rle=[0, 4]), "cover 4 pixels, and the mask has 5"),
    "a tight RLE without a place": (tight(left=None), "CVAT.* no integers left, top"),
    "a tight RLE that is too large": (tight(height=10**9), "larger than the photo"),
    "a tight RLE of text": (tight(rle="a,b"), "no integer that the mask has room for"),
    "no counts": ({"segmentation": {"size": list(SIZE)}}, "no counts"),
    "counts of floats": (rle(counts=[600.5, 599.5]), "no counts"),
    "counts of booleans": (rle(counts=[True] * PIXELS), "no counts"),
    "another size": (rle(size=[40, 30]), r"size \[40, 30\], and the photo \[30, 40\]"),
    "a size of text": (rle(size="30x40"), "30x40"),
    "strange characters": (rle(counts="ab c"), "damaged"),
    "cut off within a number": (rle(counts="P"), "damaged"),
    "too few pixels": (rle(counts=[600, 599]), "does not cover"),
    "too many pixels": (rle(counts=[600, 601]), "does not cover"),
    "empty counts": (rle(counts=[]), "does not cover"),
    "empty text": (rle(counts=""), "does not cover"),
    "a negative run": (rle(counts=[PIXELS + 5, -5]), "does not cover"),
    "runs that wrap around": (rle(counts=[2**62] * 4 + [PIXELS]), "does not cover"),
    "a run beyond 64 bits": (rle(counts=[2**70, 1]), "damaged"),
    "a box of three": ({"bbox": [1, 2, 3]}, "bbox is not a list of four"),
    "a box of text": ({"crop_box": ["a", 1, 2, 3]}, "'a' stands where a number should"),
    "an IoU that is no number": ({"predicted_iou": "high"}, "'high' stands"),
    "an infinite IoU": ({"stability_score": float("nan")}, "nan stands"),
    "an endless number": ({"predicted_iou": 10**400}, "stands where a number should"),
    "points of three": ({"point_coords": [[1, 2, 3]]}, "point_coords"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_refused_with_its_reason(name):
    content, says = BROKEN[name]
    with pytest.raises(BrokenRecordError, match=says):
        parse_record(content)


@pytest.mark.parametrize("name", BROKEN_FIELDS)
def test_one_broken_annotation_breaks_the_record(name):
    changes, says = BROKEN_FIELDS[name]
    with pytest.raises(DataError, match=says) as error:
        parsed(rectangles(0, 1), **changes)
    assert "annotation 0" in str(error.value)
    assert len(str(error.value)) < 300


def test_the_filter_keeps_large_and_certain_masks():
    masks = rectangles(0, 3)  # 300, 70 and 2 of 1,200 pixels
    annotations = parsed(masks).annotations

    def kept(**bounds: float) -> list[bool]:
        return [MaskFilter(**bounds).keeps(annotation, PIXELS) for annotation in annotations]

    assert kept() == [True, True, True]
    assert kept(min_area=2 / PIXELS) == [True, True, True]
    assert kept(min_area=3 / PIXELS) == [True, True, False]
    assert kept(min_area=0.25) == [True, False, False]
    assert kept(min_area=0.26) == [False, False, False]
    assert kept(min_predicted_iou=0.9) == [True, True, True]
    assert kept(min_predicted_iou=0.91) == [False, False, False]
    assert kept(min_stability=0.96) == [False, False, False]


def test_an_empty_mask_never_passes_the_filter():
    annotation = parsed(np.zeros((1, *SIZE), bool)).annotations[0]
    assert not MaskFilter().keeps(annotation, PIXELS)


@pytest.mark.parametrize("bounds", [{"min_area": -0.1}, {"min_predicted_iou": 1.1}, {"min_stability": float("nan")}])
def test_bounds_outside_0_to_1_are_refused(bounds):
    with pytest.raises(UsageError, match="0 to 1"):
        MaskFilter(**bounds)


def test_records_of_sa1b_itself_are_read():
    path = real_data("sa1b/record_examples.json")
    for written in json.loads(path.read_text()):
        result = parse_record(json.dumps(written).encode())
        for annotation, entry in zip(result.annotations, written["annotations"], strict=True):
            assert annotation.area == entry["area"]
            box = coco.toBbox(entry["segmentation"]) - [0, 0, 1, 1]  # SA-1B's ends on the last pixel, not behind it
            assert box.tolist() == list(annotation.bbox)


def test_bbox_is_the_references_with_the_last_pixel_left_out():
    rng = np.random.default_rng(0)
    masks = [rng.random((9, 13)) < share for share in (0.02, 0.1, 0.5, 1.0)]
    masks += [np.zeros((9, 13), np.bool_), np.eye(9, 13, dtype=np.bool_), np.eye(9, 1, -3, np.bool_)]
    for mask in masks:
        assert bbox_of(rle_of(mask)) == reference_bbox(mask)
    whole = rle_of(np.ones((9, 13), np.bool_))
    assert bbox_of(whole) == [0.0, 0.0, 12.0, 8.0]
    assert list(coco.toBbox(whole)) == [0.0, 0.0, 13.0, 9.0]
