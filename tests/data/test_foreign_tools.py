"""Label Studio, Supervisely, VIA, V7 Darwin and CVAT's masks: their documents give the masks that the tools show."""

from __future__ import annotations

import base64
import itertools
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from sam_edge.data.sa1b import parse_record
from sam_edge.data.skips import BrokenRecordError, SkipLog
from sam_edge.data.sources import open_source
from sam_edge.data.stream import walk
from sam_edge_runtime.automatic import rle as runs
from tests.data.builders import SIZE, encoded, exif_of, picture, write_folder
from tests.data.foreign_documents import (
    HEIGHT,
    WIDTH,
    bitmap,
    brush,
    darwin,
    figure,
    percent,
    points,
    region,
    result,
    supervisely,
    task,
)
from tests.data.test_foreign import CORNERS, drawn, iou

PHOTO = encoded(picture(0))
POINTS = [{"x": x, "y": y} for x, y in CORNERS]


def boxed(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """A mask of rows and columns, the last not included."""
    mask = np.zeros(SIZE, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


FRAME = boxed(5, 10, 25, 30) & ~boxed(10, 15, 20, 20)  # a rectangle with a hole
BOX, HOLE = [[10, 5], [30, 5], [30, 25], [10, 25]], [[15, 10], [20, 10], [20, 20], [15, 20]]


def masks_of(tmp_path: Path, document: object, name: str = "a.json") -> np.ndarray:
    files = [("a.jpg", PHOTO), (name, json.dumps(document).encode())]
    (sample,) = walk(open_source(write_folder(tmp_path / "data", files)), SkipLog())
    return sample.masks()


class TestLabelStudio:
    def test_polygons_and_rectangles_are_percentages(self, tmp_path):
        rectangle = {"x": 25, "y": 100 * 5 / HEIGHT, "width": 50, "height": 50, "rotation": 0}
        results = [
            result("polygonlabels", {"points": percent(CORNERS), "polygonlabels": ["cat"]}),
            result("rectanglelabels", rectangle),
            result("choices", {"choices": ["indoors"]}),
            result("keypointlabels", {"x": 1, "y": 1, "width": 0.3}),
        ]
        polygon, box = masks_of(tmp_path, [task(*results)])
        assert iou(polygon, drawn(CORNERS)) > 0.93
        np.testing.assert_array_equal(box, boxed(5, 10, 20, 30))

    def test_a_rectangle_turns_clockwise_around_its_corner(self, tmp_path):
        turned = {"x": 50, "y": 20, "width": 25, "height": 10, "rotation": 90}  # 10x3 pixels at 20, 6
        (mask,) = masks_of(tmp_path, task(result("rectangle", turned)))
        np.testing.assert_array_equal(mask, boxed(6, 17, 16, 20))

    def test_an_ellipse_has_its_radii_and_its_angle(self, tmp_path):
        flat = {"x": 50, "y": 50, "radiusX": 30, "radiusY": 20, "rotation": 0}
        upright = {"x": 50, "y": 50, "radiusX": 30, "radiusY": 20, "rotation": 90}
        wide, high = masks_of(tmp_path, task(result("ellipselabels", flat), result("ellipselabels", upright)))
        for mask, extent in ((wide, (12, 24)), (high, (24, 12))):
            assert np.ptp(np.argwhere(mask), axis=0) + 1 == pytest.approx(extent, abs=1)
            assert np.count_nonzero(mask) == pytest.approx(np.pi * 12 * 6, rel=0.03)

    @pytest.mark.parametrize("mask", [FRAME, np.random.default_rng(0).random(SIZE) < 0.5], ids=["frame", "noise"])
    def test_a_brush_s_bytes_are_the_opacity_of_pixels(self, mask, tmp_path):
        (found,) = masks_of(tmp_path, [task(result("brushlabels", {"format": "rle", "rle": brush(mask)}))])
        np.testing.assert_array_equal(found, mask)

    def test_bytes_that_label_studio_wrote_are_read(self):
        """Of its converter's `mask2rle` 0.0.59 for a mask of 3 x 5 pixels."""
        written = [0, 0, 0, 60, 57, 27, 254, 23, 0, 183, 255, 132, 192, 35, 255, 0]
        one = {**result("brush", {"rle": written}), "original_height": 3, "original_width": 5}
        (annotation,) = parse_record(json.dumps(task(one)).encode()).annotations
        assert annotation.area == 4
        assert runs.decode(annotation.rle).astype(int).tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]

    @pytest.mark.parametrize(
        ("rle", "says"),
        [
            (brush(FRAME)[:-4], "ends too early"),
            ([255] * 40, "holds 4294967295 values"),
            ([0, 0, 18, 192], "ends too early"),
            ([0, 0, 0, 300], "range"),
            ("PQ1", "no list of bytes"),
        ],
    )
    def test_a_damaged_brush_is_refused(self, rle, says):
        with pytest.raises(BrokenRecordError, match=f"Label Studio's, and damaged.*{says}"):
            parse_record(json.dumps(task(result("brushlabels", {"rle": rle}))).encode())

    def test_ground_truth_comes_first_and_cancelled_results_not_at_all(self, tmp_path):
        made = [
            {"was_cancelled": True, "result": [result("rectangle", {"x": 0, "y": 0, "width": 1, "height": 1})]},
            {"result": [result("rectangle", {"x": 0, "y": 0, "width": 50, "height": 50})]},
            {"ground_truth": True, "result": [result("rectangle", {"x": 50, "y": 50, "width": 50, "height": 50})]},
        ]
        whole = {**task(), "annotations": made}
        np.testing.assert_array_equal(masks_of(tmp_path / "truth", whole)[0], boxed(15, 20, 30, 40))
        np.testing.assert_array_equal(
            masks_of(tmp_path / "first", {**whole, "annotations": made[:2]})[0], boxed(0, 0, 15, 20)
        )
        assert not parse_record(json.dumps({**whole, "annotations": made[:1]}).encode(), PHOTO).annotations

    def test_what_cannot_be_placed_is_named(self):
        box = {"x": 0, "y": 0, "width": 50, "height": 50}
        for one, says in (
            (result("rectangle", box, image_rotation=90), "turned in Label Studio"),
            (result("bitmask", {"imageDataURL": "x"}), "type 'bitmask' is not read"),
            (result("rectangle", box, original_width=None), "gives the photo the original_width None"),
        ):
            with pytest.raises(BrokenRecordError, match=says):
                parse_record(json.dumps(task(one)).encode())
        with pytest.raises(BrokenRecordError, match="2 photos and has the name of one"):
            parse_record(json.dumps([task(), task()]).encode())

    def test_an_export_describes_the_photos_beside_it(self, tmp_path):
        box = result("rectanglelabels", {"x": 0, "y": 0, "width": 50, "height": 50})
        tasks = [
            task(box, image="/data/upload/4/1a2b3c4d-a%20b.jpg"),
            task(box, box, image="/data/local-files/?d=set/b.jpg"),
            task(image="s3://bucket/folder/c.jpg"),
        ]
        photos = [(name, PHOTO) for name in ("a b.jpg", "b.jpg", "c.jpg")]
        folder = write_folder(tmp_path / "data", [*photos, ("project-4-at-2026.json", json.dumps(tasks).encode())])
        found = [(sample.key, len(sample.rles)) for sample in walk(open_source(folder), SkipLog())]
        assert found == [("a b", 1), ("b", 2), ("c", 0)]


class TestSupervisely:
    def test_polygons_have_holes_and_rectangles_their_last_pixels(self, tmp_path):
        # Corners are numbers of pixels: the middles of the first and last pixels inside.
        outside, inside = [[10, 5], [29, 5], [29, 24], [10, 24]], [[15, 10], [19, 10], [19, 19], [15, 19]]
        document = supervisely(
            figure("polygon", outside, [inside]),
            figure("rectangle", [[10, 5], [29, 24]]),
            figure("line", [[1, 1], [9, 9]]),
        )
        polygon, rectangle = masks_of(tmp_path, document)
        assert iou(polygon, FRAME) > 0.85  # half a pixel at every edge
        assert not polygon[12:18, 16:19].any()
        np.testing.assert_array_equal(rectangle, boxed(5, 10, 25, 30))

    @pytest.mark.parametrize("mode", ["P", "RGBA", "L", "1"])
    def test_a_bitmap_lies_at_its_origin(self, mode, tmp_path):
        part = {"bitmap": {"data": bitmap(FRAME[5:25, 10:30], mode), "origin": [10, 5]}, "geometryType": "bitmap"}
        (mask,) = masks_of(tmp_path, supervisely(part))
        np.testing.assert_array_equal(mask, FRAME)

    def test_the_example_of_the_documentation(self):
        data = (
            "eJzrDPBz5+WS4mJgYOD19HAJAtLMIMwIInOeqf8BUmwBPiGuQPr///9Lb86/C2QxlgT5BTM4PLuRBuTwebo4hlTMSa44cOHAB6DqY0yO"
            "Rgq8YkAZBk9XP5d1TglNANAFGzA="
        )
        document = supervisely({"geometryType": "bitmap", "bitmap": {"data": data, "origin": [1, 2]}})
        (annotation,) = parse_record(json.dumps(document).encode()).annotations
        expected = np.zeros(SIZE, np.bool_)
        expected[2:5, 1:4] = [[1, 1, 1], [1, 0, 0], [1, 1, 1]]
        np.testing.assert_array_equal(runs.decode(annotation.rle), expected)

    def test_files_named_after_the_whole_photo_in_folders_of_a_project(self, tmp_path):
        photos = [("a.jpg", PHOTO), ("a.png", encoded(picture(1), "PNG")), ("b.jpg", PHOTO)]
        write_folder(tmp_path / "set" / "img", photos)
        one = supervisely(figure("rectangle", [[0, 0], [9, 9]]))
        two = supervisely(*[figure("rectangle", [[0, 0], [9, 9]])] * 2)
        records = [("a.jpg.json", one), ("a.png.json", two), ("b.jpg.json", supervisely())]
        write_folder(tmp_path / "set" / "ann", [(name, json.dumps(each).encode()) for name, each in records])
        found = [(sample.key, len(sample.rles)) for sample in walk(open_source(tmp_path / "set"), SkipLog())]
        assert found == [("a.jpg", 1), ("a.png", 2), ("b", 0)]
        write_folder(tmp_path / "alone", [photos[0], (records[0][0], json.dumps(one).encode())])
        assert [len(s.rles) for s in walk(open_source(tmp_path / "alone" / "a.jpg"), SkipLog())] == [1]

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"data": "no base64!"}, "data of a bitmap are damaged"),
            ({"data": base64.b64encode(zlib.compress(b"no picture")).decode()}, "data of a bitmap are damaged"),
            ({"data": base64.b64encode(zlib.compress(bytes(1 << 28))).decode()}, "data of a bitmap are damaged"),
            ({"origin": [35, 5]}, "20x20 pixels at 35, 5 reaches beyond the photo"),
            ({"origin": [0.5, 5]}, "no pair of integers"),
            ({"data": bitmap(np.ones((31, 4), np.bool_))}, "4x31 pixels is larger than the photo"),
        ],
    )
    def test_a_damaged_bitmap_is_refused(self, change, says):
        good = {"data": bitmap(FRAME[5:25, 10:30]), "origin": [10, 5]}
        document = supervisely({"geometryType": "bitmap", "bitmap": {**good, **change}})
        with pytest.raises(BrokenRecordError, match=f"Supervisely's, and damaged.*{says}"):
            parse_record(json.dumps(document).encode())

    def test_other_shapes_are_named(self):
        with pytest.raises(BrokenRecordError, match="type 'cuboid' is not read: draw it as a polygon"):
            parse_record(json.dumps(supervisely(figure("cuboid", []))).encode())


REGIONS = [
    region(name="polygon", all_points_x=[x for x, _ in CORNERS], all_points_y=[y for _, y in CORNERS]),
    region(name="rect", x=10, y=5, width=20, height=15),
    region(name="circle", cx=20, cy=15, r=7),
    region(name="ellipse", cx=20, cy=15, rx=12, ry=6, theta=np.pi / 2),
    region(name="point", cx=3, cy=3),
]


class TestVia:
    @pytest.mark.parametrize("layout", ["project", "annotations", "version 1"])
    def test_shapes_of_a_file_about_several_photos(self, layout, tmp_path):
        numbered = {str(number): each for number, each in enumerate(REGIONS)}
        regions = numbered if layout == "version 1" else REGIONS
        entries = {
            f"{name}9": {"filename": name, "size": 9, "regions": each, "file_attributes": {}}
            for name, each in (("a.jpg", regions), ("http://host/b.jpg", regions if layout == "version 1" else []))
        }
        document = {"_via_settings": {}, "_via_img_metadata": entries} if layout == "project" else entries
        files = [("a.jpg", PHOTO), ("b.jpg", PHOTO), ("via_export.json", json.dumps(document).encode())]
        first, second = walk(open_source(write_folder(tmp_path / "data", files)), SkipLog())
        polygon, box, circle, ellipse = first.masks()
        assert len(second.rles) == (4 if layout == "version 1" else 0)
        assert iou(polygon, drawn(CORNERS)) > 0.93
        np.testing.assert_array_equal(box, boxed(5, 10, 20, 30))
        assert np.count_nonzero(circle) == pytest.approx(np.pi * 49, rel=0.05)
        assert np.ptp(np.argwhere(ellipse), axis=0) + 1 == pytest.approx((24, 12), abs=1)

    def test_the_size_is_the_upright_photo_s(self, tmp_path):
        turned = encoded(picture(0), exif=exif_of(6))  # 40 x 30 stored, 30 x 40 upright
        document = {"a": {"filename": "a.jpg", "regions": [region(name="rect", x=20, y=30, width=5, height=10)]}}
        files = [("a.jpg", turned), ("a.json", json.dumps(document).encode())]
        (sample,) = walk(open_source(write_folder(tmp_path / "data", files)), SkipLog())
        assert sample.size == (40, 30)
        assert np.argwhere(sample.masks()[0]).min(0).tolist() == [30, 20]

    def test_what_is_not_read_is_named(self):
        entry = {"filename": "a.jpg", "regions": REGIONS}
        for document, photo, says in (
            ({"_via_img_metadata": {}}, PHOTO, "0 photos"),
            ({"_via_img_metadata": {"a": entry, "b": {**entry, "filename": "b.jpg"}}}, PHOTO, "2 photos"),
            ({"a": entry}, b"no photo", "does not state the photo's size"),
            ({"a": {**entry, "regions": [region(name="cloud")]}}, PHOTO, "type 'cloud' is not read"),
            (
                {"a": {**entry, "regions": [region(name="polygon", all_points_x=[1], all_points_y=[])]}},
                PHOTO,
                "not as many x as y",
            ),
        ):
            with pytest.raises(BrokenRecordError, match=f"VGG Image Annotator's.*{says}"):
                parse_record(json.dumps(document).encode(), photo)


class TestDarwin:
    def test_polygons_with_holes_boxes_and_ellipses(self, tmp_path):
        box = {"x": 10, "y": 5, "w": 20, "h": 15}
        document = darwin(
            {"name": "cat", "polygon": {"paths": [POINTS]}, "bounding_box": {"x": 0, "y": 0, "w": 1, "h": 1}},
            {"name": "cat", "polygon": {"paths": [points(BOX), points(HOLE)]}},
            {"name": "cat", "bounding_box": box},
            {"name": "cat", "ellipse": {"center": {"x": 20, "y": 15}, "radius": {"x": 12, "y": 6}, "angle": 0}},
            {"name": "outdoors", "tag": {}},
        )
        polygon, frame, rectangle, ellipse = masks_of(tmp_path, document)
        assert iou(polygon, drawn(CORNERS)) > 0.93
        np.testing.assert_array_equal(frame, FRAME)
        np.testing.assert_array_equal(rectangle, boxed(5, 10, 20, 30))
        assert np.count_nonzero(ellipse) == pytest.approx(np.pi * 72, rel=0.03)

    def test_two_separate_paths_are_one_object(self, tmp_path):
        far = [[32, 2], [38, 2], [38, 6], [32, 6]]
        (mask,) = masks_of(tmp_path, darwin({"name": "cat", "polygon": {"paths": [points(BOX), points(far)]}}))
        np.testing.assert_array_equal(mask, boxed(5, 10, 25, 30) | boxed(2, 32, 6, 38))

    def test_masks_are_values_of_the_raster_layer_row_by_row(self, tmp_path):
        """The rows `1 1 0 0`, `1 2 2 0`, `0 2 2 0` of darwin-py's own test, in the corner of the photo."""
        labels = np.zeros(SIZE, int)
        labels[:3, :4] = [[1, 1, 0, 0], [1, 2, 2, 0], [0, 2, 2, 0]]
        flat = labels.ravel()
        starts = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), len(flat)]
        rle = [int(v) for start, stop in itertools.pairwise(starts) for v in (flat[start], stop - start)]
        layer = {"dense_rle": rle, "mask_annotation_ids_mapping": {"i": 1, "j": 2, "k": 7}, "total_pixels": len(flat)}
        document = darwin(
            {"id": "i", "name": "cat", "mask": {}},
            {"id": "j", "name": "dog", "mask": {}},
            {"name": "x", "raster_layer": layer},
        )
        first, second = masks_of(tmp_path, document)
        np.testing.assert_array_equal(first, labels == 1)
        np.testing.assert_array_equal(second, labels == 2)

    def test_version_1_has_its_own_members(self, tmp_path):
        document = {
            "dataset": "d",
            "image": {"width": WIDTH, "height": HEIGHT, "filename": "a.jpg"},
            "annotations": [
                {"name": "cat", "polygon": {"path": POINTS}},
                {"name": "cat", "polygon": {"path": points(BOX), "additional_paths": [points(HOLE)]}},
                {"name": "cat", "complex_polygon": {"path": [points(BOX), points(HOLE)]}},
            ],
        }
        polygon, frame, again = masks_of(tmp_path, document)
        assert iou(polygon, drawn(CORNERS)) > 0.93
        np.testing.assert_array_equal(frame, FRAME)
        np.testing.assert_array_equal(again, FRAME)

    @pytest.mark.parametrize(
        ("document", "says"),
        [
            ({"item": {}, "annotations": []}, "slots of type"),
            (darwin(slots=2), "only one image is read"),
            (darwin(kind="video"), "only one image is read"),
            (darwin({"name": "a", "cuboid": {}}), "type 'cuboid' is not read"),
            (
                darwin({"name": "a", "ellipse": {"center": {"x": 1, "y": 1}, "radius": {"x": 1, "y": 1}, "angle": 1}}),
                "'turned ellipse' is not read",
            ),
            (
                darwin({"name": "a", "raster_layer": {"dense_rle": [0, 5], "mask_annotation_ids_mapping": {}}}),
                "cover 5",
            ),
            (darwin({"name": "a", "polygon": {"paths": [[{"x": 1}]]}}), "'y'"),
        ],
    )
    def test_what_is_not_read_is_named(self, document, says):
        with pytest.raises(BrokenRecordError, match=f"V7 Darwin's, and damaged.*{says}"):
            parse_record(json.dumps(document).encode())


@pytest.mark.parametrize("rle", [[0, 3, 1, 1, 1], "0,3,1,1,1", ["0", "3", 1.0, 1, 1]])
def test_a_tight_rle_of_cvat_fills_its_box_row_by_row(rle, tmp_path):
    segmentation = {"rle": rle, "left": 7, "top": 4, "width": 3, "height": 2}
    document = {"image": {"width": WIDTH, "height": HEIGHT}, "annotations": [{"segmentation": segmentation}]}
    (mask,) = masks_of(tmp_path, document)
    expected = np.zeros(SIZE, np.bool_)
    expected[4:6, 7:10] = [[1, 1, 1], [0, 1, 0]]
    np.testing.assert_array_equal(mask, expected)
