"""Arrays and files in the form in which the tests of the TypeScript package read them."""

from __future__ import annotations

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime.bundle.conventions import Conventions


def array(values: Any) -> dict[str, Any]:
    values = np.ascontiguousarray(values)
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    data = base64.b64encode(values.tobytes()).decode()
    return {"dtype": values.dtype.name, "shape": list(values.shape), "data": data}


def size(height_width) -> dict[str, int]:
    height, width = map(int, height_width)
    return {"height": height, "width": width}


def smooth(rng: np.random.Generator, count: int, rows: int, columns: int) -> np.ndarray:
    """Logits (count, rows, columns) of blobs: sums of a few waves."""
    y, x = np.mgrid[:rows, :columns] / max(rows, columns)
    waves = rng.normal(size=(count, 6, 3)) * (9, 9, 3)
    parts = np.sin(waves[:, :, 0, None, None] * x + waves[:, :, 1, None, None] * y + waves[:, :, 2, None, None])
    return (parts.sum(axis=1) * 2).astype(np.float32)


def camel(conventions: Conventions) -> dict[str, Any]:
    every = {**asdict(conventions), "features": [each._asdict() for each in conventions.features]}
    words = ((key.split("_"), value) for key, value in every.items())
    return {first + "".join(each.capitalize() for each in rest): value for (first, *rest), value in words}


def folder(path: Path) -> dict[str, str]:
    return {
        each.relative_to(path).as_posix(): base64.b64encode(each.read_bytes()).decode()
        for each in sorted(path.rglob("*"))
        if each.is_file()
    }
