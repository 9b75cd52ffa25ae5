"""Run lengths, and records of masks: SA-1B's, and those of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import mutations as mutate
from tests.fuzz.surfaces.inputs import Attempt, saved, small_photo, small_record


def run_lengths(folder: Path) -> Attempt:
    """COCO's run-length encodings."""
    from sam_edge_runtime.automatic import rle

    functions = [function for name in ("decode", "area", "to_bbox") if (function := getattr(rle, name, None))]

    def attempt(rng: np.random.Generator) -> None:
        height, width = (int(each) for each in rng.integers(1, 20, 2))
        valid: dict[str, Any] = dict(rle.encode(rng.random((height, width)) < 0.5))
        if rng.integers(2):
            valid["counts"] = rle.decompress(valid["counts"]).tolist()
        if rng.integers(3) == 0 and isinstance(valid["counts"], str):
            valid["counts"] = mutate.content(rng, valid["counts"].encode()).decode("latin-1")
        else:
            valid = mutate.document(rng, valid)
        if rng.integers(8) == 0:
            rle.decompress(mutate.values(rng))
        else:
            functions[rng.integers(len(functions))](valid)

    return attempt


def record(folder: Path) -> Attempt:
    """SA-1B's JSON beside a photo."""
    from sam_edge.data.sa1b import parse_record

    valid = small_record()
    return lambda rng: parse_record(mutate.json_text(rng, valid))


def foreign_record(folder: Path) -> Attempt:
    """JSON of other annotation tools beside a photo."""
    from sam_edge.data.sa1b import parse_record
    from tests.data import foreign_documents as tools

    mask = np.zeros(tools.SIZE, np.bool_)
    mask[5:20, 7:30] = True
    corners = [[5.5, 4.25], [30.0, 6.0], [33.75, 22.5], [4.0, 25.0]]
    flat = [value for corner in corners for value in corner]
    size = {"height": tools.HEIGHT, "width": tools.WIDTH}
    holes = tools.figure("polygon", corners, [[[10, 10], [20, 10], [20, 15]]])
    bitmap = {"geometryType": "bitmap", "bitmap": {"data": tools.bitmap(mask), "origin": [0, 0]}}
    layer = {
        "dense_rle": [0, 600, 1, 300, 2, 300],
        "mask_annotation_ids_mapping": {"i": 1, "j": 2},
        "total_pixels": 1200,
    }
    paths = {"paths": [tools.points(corners), tools.points(corners[:3])]}
    polygon = tools.region(name="polygon", all_points_x=flat[::2], all_points_y=flat[1::2])
    round_one = tools.region(name="ellipse", cx=20, cy=15, rx=9, ry=5, theta=0.5)
    shape = {"label": "cat", "shape_type": "polygon", "group_id": None, "points": corners}
    documents: list[Any] = [
        [tools.task(tools.result("polygonlabels", {"points": tools.percent(corners)}))],
        tools.task(
            tools.result("brushlabels", {"format": "rle", "rle": tools.brush(mask)}),
            tools.result("rectanglelabels", {"x": 9, "y": 9, "width": 20, "height": 30, "rotation": 20}),
            tools.result("ellipselabels", {"x": 50, "y": 50, "radiusX": 9, "radiusY": 9}),
        ),
        tools.supervisely(holes, bitmap, tools.figure("rectangle", [[2, 3], [9, 9]])),
        {"_via_img_metadata": {"a": {"filename": "a.jpg", "size": 9, "regions": [polygon, round_one]}}},
        tools.darwin({"name": "cat", "polygon": paths}, {"name": "x", "raster_layer": layer}),
        {
            "image": {**size, "filename": "a.jpg"},
            "annotations": [{"name": "cat", "complex_polygon": {"path": paths["paths"]}}],
        },
        {"images": [{**size, "id": 1}], "annotations": [{"image_id": 1, "segmentation": [flat]}]},
        {
            "shapes": [shape, {**shape, "shape_type": "circle", "points": corners[:2]}],
            "imageHeight": 30,
            "imageWidth": 40,
        },
        {"info": size, "objects": [{"category": "cat", "group": 1, "segmentation": corners}]},
        {
            "image": size,
            "annotations": [{"segmentation": {"rle": [0, 6], "left": 3, "top": 4, "width": 3, "height": 2}}],
        },
    ]
    photo = saved(small_photo(), "JPEG")

    def attempt(rng: np.random.Generator) -> None:
        parse_record(mutate.json_text(rng, documents[rng.integers(len(documents))]), photo)

    return attempt
