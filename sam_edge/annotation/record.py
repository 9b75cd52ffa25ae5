"""Automatic masks as SA-1B writes them: one JSON record beside each photo (layout in `sam_edge.data.sa1b`)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from sam_edge.data.sa1b import Annotation, bbox_of

_IDS_A_PHOTO = 1 << 16
_NUMBER_AT_END = re.compile(r"(\d{1,15})$")


def sa1b_record(
    key: str, file_name: str, size: tuple[int, int], masks: Sequence[dict[str, Any]], number: int
) -> dict[str, Any]:
    """A photo's record.

    Args:
        key: the photo's name without its ending; where it ends in a number, as SA-1B's do, that is the `image_id`.
        file_name: the photo's file beside the record.
        size: (H, W) of the photo in pixels.
        masks: as `AutomaticMaskGenerator` gives them with `output_mode="coco_rle"`, or `kept` gives them.
        number: of the photo among all, from 0; the `image_id` of one without a number in its name.
    """
    found = _NUMBER_AT_END.search(key)
    image = int(found.group(1)) if found else number
    height, width = size
    return {
        "image": {"image_id": image, "width": width, "height": height, "file_name": file_name},
        "annotations": [{**mask, "id": image * _IDS_A_PHOTO + index} for index, mask in enumerate(masks)],
    }


def kept(annotation: Annotation) -> dict[str, Any]:
    """A mask that was there before, as `sa1b_record` takes it."""
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


def record_bytes(record: dict[str, Any]) -> bytes:
    """The record's file."""
    return json.dumps(record, separators=(",", ":")).encode()
