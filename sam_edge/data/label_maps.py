"""Label pictures as records: the regions of BSDS500, the objects of Pascal VOC and Cityscapes.

| layout | masks | names |
|---|---|---|
| BSDS500's `.mat` | the regions of the first annotator (`Segmentation`) | none |
| VOC's `SegmentationObject` | the objects 1..254; 255 is void | the class in `SegmentationClass` |
| Cityscapes' `instanceIds` | objects: class * 1000 + number | the class |
| the same, below 1000 | a class of objects: a group of them, so a crowd; other classes have no objects | the class |

Classes are VOC's and Cityscapes' own, unless `categories.json` beside the folders names others.

The pictures are read as they are, by index and not by colour. Sources: "The PASCAL Visual Object Classes", development
kit; github.com/mcordts/cityscapesScripts, helpers/labels.py; and BSDS500's release.
"""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.automatic.rle import LARGEST_MASK, Rle, compress, run_lengths_of_part
from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.text import read_regular

from .label_layouts import CITY_IDS_END, CITY_LABELS, MAT_ENDING, VOC_CLASSES
from .skips import BrokenRecordError

VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
CITY_NAMES = {
    **{24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 29: "caravan", 30: "trailer", 31: "train"},
    **{32: "motorcycle", 33: "bicycle"},
}
VOC_VOID, CITY_OBJECTS = 255, 1000  # the index of no object; the least id of one object
CATEGORIES = "categories.json"  # {"1": "name", ...}: beside label pictures of other classes
_LARGEST_FILE = 1 << 28  # bytes

Labels = npt.NDArray[np.int64]


def label_record(path: Path) -> bytes:
    """A label picture as SA-1B's JSON.

    Raises:
        OSError: it cannot be read.
        BrokenRecordError: it is damaged, or of another size than the picture of its classes.
    """
    if path.suffix.lower() == MAT_ENDING:
        labels = _regions(path)
        return _record(labels, {int(value): (None, False) for value in np.unique(labels)})
    labels = read_labels(path)
    return _record(
        labels, _city_objects(path, labels) if path.stem.endswith(CITY_IDS_END) else _voc_objects(path, labels)
    )


def read_labels(path: Path) -> Labels:
    """The indices (H, W) of a label picture, PNG of 8 or 16 bits with or without a palette.

    Raises:
        OSError: it cannot be read.
        BrokenRecordError: it is no such picture.
    """
    from PIL import Image  # noqa: PLC0415

    content = read_regular(path, _LARGEST_FILE)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.width * picture.height > LARGEST_MASK:
                raise BrokenRecordError(f"{path.name} is larger than any photo that is read here")
            labels = np.array(picture)
    except BrokenRecordError:
        raise
    except Exception as error:  # a damaged PNG can raise anything
        raise BrokenRecordError(f"{path.name} is damaged ({type(error).__name__})") from error
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise BrokenRecordError(f"{path.name} is a picture of colours and not of indices")
    return labels.astype(np.int64)


def _regions(path: Path) -> Labels:
    try:
        from scipy.io import loadmat  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BrokenRecordError("BSDS500 needs scipy: pip install 'sam-edge[evaluate]'") from error
    content = read_regular(path, _LARGEST_FILE)
    try:
        labels: Labels = np.asarray(
            loadmat(io.BytesIO(content))["groundTruth"].ravel()[0]["Segmentation"][0, 0], np.int64
        )
    except Exception as error:  # a damaged file can raise anything
        raise BrokenRecordError(f"{path.name} is not ground truth of BSDS500 ({type(error).__name__})") from error
    if labels.ndim != 2 or not labels.size:
        raise BrokenRecordError(f"{path.name} has no regions")
    return labels


def _voc_objects(path: Path, labels: Labels) -> dict[int, tuple[str | None, bool]]:
    """Name, and whether it is a crowd, of each object."""
    names: dict[int, str | None] = {}
    of_classes = path.parent.parent / VOC_CLASSES / path.name
    own = _own_names(path.parent.parent)
    if of_classes.is_file():
        classes = read_labels(of_classes)
        if classes.shape != labels.shape:
            raise BrokenRecordError(f"its pictures of objects and of classes differ in size: {path.name}")
        for value in np.unique(labels).tolist():
            index = int(np.bincount(classes[labels == value]).argmax())
            names[value] = own.get(index) or (VOC_NAMES[index] if not own and index < len(VOC_NAMES) else None)
    return {value: (names.get(value), False) for value in np.unique(labels).tolist() if 0 < value < VOC_VOID}


def _city_objects(path: Path, labels: Labels) -> dict[int, tuple[str | None, bool]]:
    own = _own_names(next((each.parent for each in path.parents if each.name == CITY_LABELS), path.parent))
    named = own or CITY_NAMES
    return {
        value: (named.get(value if value < CITY_OBJECTS else value // CITY_OBJECTS), value < CITY_OBJECTS)
        for value in np.unique(labels).tolist()
        if value >= CITY_OBJECTS or value in named
    }


def _own_names(folder: Path) -> dict[int, str]:
    path = folder / CATEGORIES
    try:
        status = path.stat()
    except OSError:
        return {}
    return _read_names(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _read_names(path: Path, size: int, changed: int) -> dict[int, str]:
    try:
        return {int(number): str(name) for number, name in read_json(path).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise BrokenRecordError(f'{CATEGORIES} is damaged: write {{"1": "name", ...}}') from error


def _record(labels: Labels, objects: dict[int, tuple[str | None, bool]]) -> bytes:
    height, width = labels.shape
    annotations: list[dict[str, Any]] = []
    for value, (name, crowd) in objects.items():
        annotation: dict[str, Any] = {"segmentation": mask_of(labels == value)}
        if name is not None:
            annotation["name"] = name
        annotations.append({**annotation, "iscrowd": 1} if crowd else annotation)
    return json.dumps({"image": {"height": height, "width": width}, "annotations": annotations}).encode()


def mask_of(mask: npt.NDArray[np.bool_]) -> Rle:
    """A mask (H, W) in compressed form, computed on the part that is set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    top, left = (int(rows[0]), int(columns[0])) if len(rows) else (0, 0)
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1] if len(rows) else mask[:1, :1]
    return {
        "size": [height, width],
        "counts": compress(run_lengths_of_part(np.ascontiguousarray(part.T), (left, top), (height, width))),
    }
