"""COCO's and LVIS's layout, and the bare list of masks of segment_anything's scripts/amg.py.

Sources: cocodataset.org/#format-data and lvisdataset.org/dataset. LVIS has addresses of photos instead of file names.
"""

from __future__ import annotations

from typing import Any

from .format import Format, PhotoSize, file_name, has, is_list_of, one_of


def _from_amg(document: list[dict[str, Any]], _: PhotoSize) -> dict[str, Any]:
    height, width = document[0]["segmentation"]["size"]
    return {"image": {"height": height, "width": width}, "annotations": document}


def _from_coco(document: dict[str, Any], _: PhotoSize) -> dict[str, Any]:
    image = one_of({str(number): each for number, each in enumerate(document["images"])})
    categories = category_names(document.get("categories"))
    named = [with_name(each, categories) if isinstance(each, dict) else each for each in document["annotations"]]
    return {"image": image, "annotations": named}


def _split(document: dict[str, Any]) -> dict[str, Any]:
    by_id: dict[str, dict[str, Any]] = {}
    records: dict[str, dict[str, Any]] = {}
    for image in document["images"]:
        name = photo_name(image)
        if name is not None:
            record = {"image": image, "annotations": []}
            by_id[str(image.get("id"))] = record
            records[name] = record
    categories = category_names(document.get("categories"))
    for annotation in document["annotations"]:
        owner = by_id.get(str(annotation.get("image_id"))) if isinstance(annotation, dict) else None
        if owner is not None:
            owner["annotations"].append(with_name(annotation, categories))
    return records


def photo_name(image: object) -> str | None:
    """The file's name of a photo in COCO or LVIS; None where the entry has none."""
    if has(image, file_name=str):
        return file_name(image["file_name"])  # type: ignore[index]  # an object, as `has` says
    return file_name(image["coco_url"]) if has(image, coco_url=str) else None  # type: ignore[index]


def category_names(categories: object) -> dict[str, str]:
    """The names of COCO's categories by their ids."""
    entries = categories if isinstance(categories, list) else []
    return {str(each.get("id")): each["name"] for each in entries if has(each, name=str)}


def with_name(annotation: dict[str, Any], categories: dict[str, str]) -> dict[str, Any]:
    """An annotation with the name of its category, where it has one."""
    name = categories.get(str(annotation.get("category_id")))
    return annotation if name is None else {**annotation, "name": name}


FORMATS = (
    Format("segment_anything's amg.py", lambda document: is_list_of(document, "segmentation", dict), _from_amg),
    Format("COCO", lambda document: has(document, images=list, annotations=list), _from_coco, _split),
)
