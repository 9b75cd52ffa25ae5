"""Documents of other annotation tools, as they export them."""

from __future__ import annotations

import base64
import io
import itertools
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

from tests.data.builders import SIZE

HEIGHT, WIDTH = SIZE


def percent(points: Iterable) -> list[list[float]]:
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]


def result(kind: str, value: dict, **more) -> dict:
    about = {"type": kind, "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {**about, "value": value, **more}


def task(*results: dict, image: str = "/data/upload/1/a.jpg", **more) -> dict:
    annotations = [{"id": 3, "was_cancelled": False, "ground_truth": False, "result": list(results), **more}]
    return {"id": 1, "data": {"image": image}, "annotations": annotations, "predictions": []}


def brush(mask: np.ndarray, lengths: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """The bytes of a brush: runs of RGBA where they are long, literal values elsewhere."""
    values = np.repeat(np.where(mask.ravel(), 255, 0), 4)
    starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{length - 1:04b}" for length in lengths)
    for start, stop in itertools.pairwise(starts):
        for at in range(start, stop, 1 << lengths[-1]):
            count = min(stop - at, 1 << lengths[-1])
            which = next(k for k, length in enumerate(lengths) if count - 1 < 1 << length)
            value = f"{values[at]:08b}"
            literal = count < 6
            bits += f"{int(not literal)}{which:02b}{count - 1:0{lengths[which]}b}" + value * (count if literal else 1)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def bitmap(mask: np.ndarray, mode: str = "P") -> str:
    """Supervisely's encoding: a PNG with transparency, compressed, as base64."""
    file = io.BytesIO()
    if mode == "P":
        image = Image.fromarray(mask.astype(np.uint8))
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(file, "PNG", transparency=0)
    elif mode == "RGBA":
        colour = np.full((*mask.shape, 3), 9, np.uint8)
        Image.fromarray(np.dstack([colour, np.where(mask, 255, 0).astype(np.uint8)])).save(file, "PNG")
    else:
        Image.fromarray(mask).convert(mode).save(file, "PNG")
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def figure(kind: str, exterior: list, interior: Iterable = ()) -> dict:
    return {"geometryType": kind, "classTitle": "cat", "points": {"exterior": exterior, "interior": list(interior)}}


def supervisely(*objects: dict) -> dict:
    return {"description": "", "tags": [], "size": {"height": HEIGHT, "width": WIDTH}, "objects": list(objects)}


def region(**shape) -> dict:
    return {"shape_attributes": shape, "region_attributes": {}}


def darwin(*annotations: dict, slots: int = 1, kind: str = "image") -> dict:
    slot = {"type": kind, "slot_name": "0", "width": WIDTH, "height": HEIGHT, "source_files": []}
    return {"version": "2.0", "item": {"name": "a.jpg", "slots": [slot] * slots}, "annotations": list(annotations)}


def points(corners: Iterable) -> list[dict]:
    return [{"x": x, "y": y} for x, y in corners]
