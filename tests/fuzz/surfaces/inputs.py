"""Valid inputs that several surfaces start from."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

Attempt = Callable[[np.random.Generator], Any]


def small_photo(size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def small_record() -> dict[str, Any]:
    from sam_edge_runtime.automatic import rle

    mask = np.zeros((30, 40), np.bool_)
    mask[5:20, 7:30] = True
    return {
        "image": {"image_id": 1, "width": 40, "height": 30, "file_name": "a.jpg"},
        "annotations": [
            {
                "id": 1,
                "segmentation": dict(rle.encode(mask)),
                "bbox": [7.0, 5.0, 22.0, 14.0],
                "area": int(mask.sum()),
                "predicted_iou": 0.9,
                "stability_score": 0.97,
                "crop_box": [0.0, 0.0, 40.0, 30.0],
                "point_coords": [[10.0, 10.0]],
            },
            {"id": 2, "segmentation": {"size": [30, 40], "counts": [600, 100, 500]}, "area": 100},
        ],
    }
