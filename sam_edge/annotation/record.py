"""Automatic masks as SA-1B's JSON record, one for each photo (layout in `sam_edge.data.sa1b`).

`bbox` is x, y, width, height in pixels as SAM counts them: width is last column minus first column, height likewise.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sam_edge.data.sa1b import UPRIGHT, Annotation, bbox_of

IDS_A_PHOTO = 1 << 16  # masks of a photo that have an id of their own
_NUMBER_AT_END = re.compile(r"(\d{1,15})$")


def sa1b_record(
    key: str, file_name: str, size: tuple[int, int], masks: Sequence[dict[str, Any]], number: int
) -> dict[str, Any]:
    """The record of a photo.

    Args:
        key: the photo's name without its ending. If it ends in a number, as SA-1B's do, that is the `image_id`.
        file_name: name of the photo's file.
        size: (H, W) of the upright photo in pixels; the record states that its masks refer to the upright photo.
        masks: as `AutomaticMaskGenerator` gives them with `output_mode="coco_rle"`, or `kept_mask`.
        number: number of the photo, from 0; the `image_id` if its name has no number.
    """
    found = _NUMBER_AT_END.search(key)
    image = int(found.group(1)) if found else number
    height, width = size
    return {
        "image": {"image_id": image, "width": width, "height": height, "file_name": file_name, "orientation": UPRIGHT},
        "annotations": [{**mask, "id": image * IDS_A_PHOTO + index} for index, mask in enumerate(masks)],
    }


def kept_mask(annotation: Annotation) -> dict[str, Any]:
    """A mask of the source, in the form that `sa1b_record` takes."""
    height, width = annotation.rle["size"]
    return {
        "segmentation": {"size": [height, width], "counts": annotation.rle["counts"]},
        "area": annotation.area,
        "bbox": list(annotation.bbox) if annotation.bbox is not None else bbox_of(annotation.rle),
        "predicted_iou": annotation.predicted_iou,
        "point_coords": [list(point) for point in annotation.point_coords],
        "stability_score": annotation.stability_score,
        "crop_box": list(annotation.crop_box or (0.0, 0.0, float(width), float(height))),
    }


def distinct_names(names: Iterable[str]) -> list[str]:
    """The names, with a number appended to those that are taken, also where systems ignore upper and lower case."""
    taken: set[str] = set()
    distinct: list[str] = []
    for plain in names:
        name, count = plain, 1
        while name.casefold() in taken:
            count += 1
            name = f"{plain}_{count}"
        taken.add(name.casefold())
        distinct.append(name)
    return distinct


def result_names(photos: Sequence[Path]) -> dict[Path, str]:
    """A name of its own for each photo's results: its stem, or its whole name where another photo has the stem."""
    stems = Counter(path.stem.casefold() for path in photos)
    alike = {path: stems[path.stem.casefold()] > 1 for path in photos}
    order = sorted(photos, key=lambda path: alike[path])  # stems first, which need no change
    plain = (path.name.replace(".", "_") if alike[path] else path.stem for path in order)
    return dict(zip(order, distinct_names(plain), strict=True))


def record_bytes(record: dict[str, Any]) -> bytes:
    """The content of the record's file."""
    return json.dumps(record, separators=(",", ":")).encode()
