"""COCO's layout (cocodataset.org/#format-data), and the bare list of masks of segment_anything's scripts/amg.py."""

from __future__ import annotations

from typing import Any

from .format import Format, PhotoSize, file_name, has, is_list_of, one_of


def _from_amg(document: list[dict[str, Any]], _: PhotoSize) -> dict[str, Any]:
    height, width = document[0]["segmentation"]["size"]
    return {"image": {"height": height, "width": width}, "annotations": document}


def _from_coco(document: dict[str, Any], _: PhotoSize) -> dict[str, Any]:
    image = one_of({str(number): each for number, each in enumerate(document["images"])})
    return {"image": image, "annotations": document["annotations"]}


def _split(document: dict[str, Any]) -> dict[str, Any]:
    by_id: dict[str, dict[str, Any]] = {}
    records: dict[str, dict[str, Any]] = {}
    for image in document["images"]:
        if has(image, file_name=str):
            record = {"image": image, "annotations": []}
            by_id[str(image.get("id"))] = record
            records[file_name(image["file_name"])] = record
    for annotation in document["annotations"]:
        owner = by_id.get(str(annotation.get("image_id"))) if isinstance(annotation, dict) else None
        if owner is not None:
            owner["annotations"].append(annotation)
    return records


FORMATS = (
    Format("segment_anything's amg.py", lambda document: is_list_of(document, "segmentation", dict), _from_amg),
    Format("COCO", lambda document: has(document, images=list, annotations=list), _from_coco, _split),
)
