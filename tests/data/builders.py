"""Tiny annotated photos, and tars and folders of them in SA-1B's layout."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from sam_edge.data.sample import Sample

SIZE = (30, 40)  # H, W
Files = list[tuple[str, bytes]]


def rectangles(seed: int, count: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(M, H, W) bool: the first covers a quarter of the photo, the last two pixels, the others lie in between."""
    rng = np.random.default_rng(seed)
    height, width = size
    masks = np.zeros((count, height, width), bool)
    for index, mask in enumerate(masks):
        share = 2 ** (index + 1)
        h, w = (height // 2, width // 2) if index == 0 else (max(1, height // share), max(2, width // share))
        if index == count - 1 and count > 1:
            h, w = 1, 2
        y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
        mask[y : y + h, x : x + w] = True
    return masks


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8: a smooth ramp whose colour depends on the seed."""
    y, x = np.mgrid[: size[0], : size[1]]
    colour = np.random.default_rng(seed).integers(40, 216, 3)
    return np.clip(colour + np.stack([x - size[1] / 2, y - size[0] / 2, x - y], -1), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def exif_of(orientation: int) -> Image.Exif:
    """An EXIF block that states an orientation, 1 to 8."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def rle_of(mask: np.ndarray) -> dict:
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def record(masks: np.ndarray, **changes) -> dict:
    """SA-1B's JSON for masks (M, H, W); `changes` replace fields of every annotation."""
    height, width = masks.shape[1:]
    annotations = [
        {
            "id": index,
            "segmentation": rle_of(mask),
            "bbox": [float(value) for value in coco.toBbox(rle_of(mask))],
            "area": int(mask.sum()),
            "predicted_iou": 0.9,
            "stability_score": 0.95,
            "crop_box": [0.0, 0.0, float(width), float(height)],
            "point_coords": [[1.5, 2.5]],
            **changes,
        }
        for index, mask in enumerate(masks)
    ]
    image = {"image_id": 1, "width": width, "height": height, "file_name": "a.jpg"}
    return {"image": image, "annotations": annotations}


def pair(key: str, seed: int, count: int = 3) -> Files:
    """A photo and its JSON."""
    masks = rectangles(seed, count)
    return [(f"{key}.jpg", encoded(picture(seed))), (f"{key}.json", json.dumps(record(masks)).encode())]


def pairs(count: int, *, start: int = 0, prefix: str = "sa_") -> Files:
    return [file for seed in range(start, start + count) for file in pair(f"{prefix}{seed}", seed)]


def write_tar(path: Path, files: Files) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    return path


def write_folder(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files:
        (folder / name).write_bytes(content)
    return folder


def sample(photo: np.ndarray, masks: np.ndarray) -> Sample:
    return Sample(photo, tuple(rle_of(mask) for mask in masks), "here", "it")
