"""COCO's JSON of the tiny photos that `tests.data.builders` makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pycocotools import mask as coco

from sam_edge_runtime.automatic import rle as runs
from tests.data.builders import SIZE, encoded, picture, rectangles, rle_of

NAMES = ("cat", "dog", "tree")


def coco_document(count: int, form: str = "rle") -> dict[str, Any]:
    """COCO's JSON of the photos `sa_0.jpg`, ...; `form` is `rle` or `uncompressed`."""
    height, width = SIZE
    images = [{"id": 7 * n + 3, "file_name": f"sa_{n}.jpg", "height": height, "width": width} for n in range(count)]
    annotations = []
    for image in range(count):
        for index, mask in enumerate(rectangles(image)):
            rle = rle_of(mask)
            if form == "uncompressed":
                rle = {"size": rle["size"], "counts": runs.decompress(rle["counts"]).tolist()}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 7 * image + 3,
                    "category_id": 10 + index,
                    "segmentation": rle,
                    "area": int(mask.sum()),
                    "bbox": [float(value) for value in coco.toBbox(rle_of(mask))],
                    "iscrowd": 0,
                }
            )
    annotations = annotations[1::2] + annotations[::2]  # not by photo
    categories = [{"id": 10 + index, "name": name} for index, name in enumerate(NAMES)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def write_coco(path: Path, count: int, form: str = "rle") -> Path:
    """COCO's JSON with its photos beside it."""
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(coco_document(count, form)))
    for seed in range(count):
        (path.parent / f"sa_{seed}.jpg").write_bytes(encoded(picture(seed)))
    return path
