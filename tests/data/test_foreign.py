"""JSON of other annotation tools gives their masks, or a message that names the tool."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam_edge.data.sa1b import parse_record
from sam_edge.data.skips import BrokenRecordError, SkipLog
from sam_edge.data.sources import open_source
from sam_edge.data.stream import walk
from sam_edge_runtime.automatic import rle
from tests.data.builders import SIZE, encoded, picture, record, rectangles, write_folder

HEIGHT, WIDTH = SIZE
CORNERS = [[5.5, 4.25], [30.0, 6.0], [33.75, 22.5], [4.0, 25.0]]
FLAT = [value for corner in CORNERS for value in corner]
IMAGE = {"id": 7, "width": WIDTH, "height": HEIGHT, "file_name": "sub/a.jpg"}
ANNOTATION = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "area": 1.0, "bbox": [4, 4, 29, 21]}


def shape(points, kind: str = "polygon", **more) -> dict:
    return {"label": "cat", "points": points, "shape_type": kind, "flags": {}, **more}


def labelme(*shapes: dict) -> dict:
    return {"version": "5.5.0", "shapes": list(shapes), "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}


def coco(segmentation: object) -> dict:
    return {"images": [IMAGE], "categories": [], "annotations": [{**ANNOTATION, "segmentation": segmentation}]}


ISAT = {
    "info": {"description": "ISAT", "name": "a.jpg", "width": WIDTH, "height": HEIGHT, "depth": 3},
    "objects": [{"category": "cat", "group": 1, "segmentation": CORNERS, "bbox": [4, 4, 33, 25]}],
}
READ = {
    "LabelMe": labelme(shape(CORNERS)),
    "X-AnyLabeling": labelme(shape(CORNERS, score=None, group_id=None, attributes={}), shape([[3, 4]], "point")),
    "ISAT": ISAT,
    "COCO": coco([FLAT]),
    "one flat list": coco(FLAT),
    "a list of points": coco(CORNERS),
    "polygons in a record": {"image": IMAGE, "annotations": [{**ANNOTATION, "segmentation": [FLAT]}]},
}


def parsed(document: object):
    return parse_record(json.dumps(document).encode())


def drawn(corners) -> np.ndarray:
    """A polygon by Pillow."""
    canvas = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners], fill=1)
    return np.asarray(canvas)


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    return np.count_nonzero(mask & other) / np.count_nonzero(mask | other)


def masks_of(tmp_path, document, name: str = "a.json") -> np.ndarray:
    files = [("a.jpg", encoded(picture(0))), (name, json.dumps(document).encode())]
    (sample,) = walk(open_source(write_folder(tmp_path / "data", files)), SkipLog())
    return sample.masks()


@pytest.mark.parametrize("tool", READ)
def test_polygons_of_other_tools_are_masks(tmp_path, tool):
    (mask,) = masks_of(tmp_path, READ[tool])
    assert iou(mask, drawn(CORNERS)) > 0.93  # two rules for the pixels of an outline


def test_rectangles_circles_and_groups_of_labelme_are_masks(tmp_path):
    rectangle, circle = shape([[30, 20], [10, 5]], "rectangle"), shape([[20, 15], [20, 22]], "circle")
    both = [shape([[1, 1], [9, 1], [9, 9]], group_id=3), shape([[20, 15], [30, 15], [30, 25]], group_id=3)]
    masks = masks_of(tmp_path, labelme(rectangle, circle, *both))
    assert len(masks) == 3
    assert np.argwhere(masks[0]).min(0).tolist() == [5, 10]
    assert np.argwhere(masks[0]).max(0).tolist() == [19, 29]
    assert abs(np.count_nonzero(masks[1]) - np.pi * 49) < 10
    assert masks[2][3, 7]
    assert masks[2][17, 27]


def test_a_bare_list_of_masks_as_amg_writes_it_is_read(tmp_path):
    annotations = [{k: v for k, v in each.items() if k != "id"} for each in record(rectangles(0))["annotations"]]
    np.testing.assert_array_equal(masks_of(tmp_path, annotations), rectangles(0))


def test_one_coco_file_describes_the_photos_beside_it(tmp_path):
    images = [{**IMAGE, "id": number, "file_name": f"photos\\{number}.jpg"} for number in range(3)]
    annotations = [
        {**ANNOTATION, "id": number, "image_id": number, "segmentation": [FLAT]} for number in range(2)
    ]  # the last photo has none
    document = {"info": {}, "images": images, "annotations": annotations, "categories": []}
    photos = [(f"{number}.jpg", encoded(picture(number))) for number in range(3)]
    folder = write_folder(tmp_path / "data", [*photos, ("instances_default.json", json.dumps(document).encode())])
    source = open_source(folder)
    assert source.annotated
    assert [(sample.key, len(sample.rles)) for sample in walk(source, SkipLog())] == [("0", 1), ("1", 1), ("2", 0)]
    (folder / "3.jpg").write_bytes(photos[0][1])
    log = SkipLog(1.0)
    assert len(list(walk(open_source(folder), log))) == 3
    assert [(skip.key, skip.reason) for skip in log.names] == [("3", "its JSON is missing")]
    write_folder(tmp_path / "cvat" / "images", photos)
    write_folder(tmp_path / "cvat" / "annotations", [("instances_default.json", json.dumps(document).encode())])
    assert len(list(walk(open_source(tmp_path / "cvat"), SkipLog()))) == 3


NOT_READ = {
    "Labelbox": ([{"data_row": {"id": "x"}}], "export COCO"),
    "COCO": ({"images": [IMAGE, IMAGE], "annotations": []}, "2 photos.* a name of its own, beside the photos"),
    "LabelMe": (labelme(shape(CORNERS, "spline")), "type 'spline' is not read: draw it as a polygon"),
    "ISAT": ({**ISAT, "objects": [{"segmentation": [1, 2]}]}, "damaged"),
    "segment_anything's amg": ([{"segmentation": {"counts": "a"}}], "damaged"),
}


@pytest.mark.parametrize("tool", NOT_READ)
def test_what_is_not_read_is_named_with_a_remedy(tool):
    document, remedy = NOT_READ[tool]
    with pytest.raises(BrokenRecordError, match=f"its JSON is {tool}.*{remedy}") as error:
        parsed(document)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def labelme_mask(mask: np.ndarray, left: int, top: int) -> dict:
    png = base64.b64encode(encoded(mask.astype(np.uint8) * 255, "PNG")).decode()
    points = [[left, top], [left + mask.shape[1] - 1, top + mask.shape[0] - 1]]
    return shape(points, "mask", mask=png)


def test_masks_of_labelme_lie_where_their_points_say():
    part = rectangles(3, size=(9, 14))[0]
    (annotation,) = parsed(labelme(labelme_mask(part, 5, 11))).annotations
    mask = rle.decode(annotation.rle)
    assert np.array_equal(mask[11:20, 5:19], part)
    assert mask.sum() == part.sum()
    assert (annotation.name, annotation.crowd) == ("cat", False)


def test_masks_of_labelme_beyond_the_photo_or_of_another_size_are_refused():
    part = np.ones((9, 14), bool)
    for left, top in ((30, 5), (-1, 5)):
        with pytest.raises(BrokenRecordError, match="beyond the photo"):
            parsed(labelme(labelme_mask(part, left, top)))
    wrong = {**labelme_mask(part, 5, 11), "points": [[5, 11], [6, 12]]}
    with pytest.raises(BrokenRecordError, match="its points another"):
        parsed(labelme(wrong))
    with pytest.raises(BrokenRecordError, match="damaged"):
        parsed(labelme({**wrong, "mask": "no base64"}))
