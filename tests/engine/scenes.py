"""Synthetic scenes that a model must learn: striped shapes on a ground of the same colours.

Only the stripes tell a shape from its ground, so a model that was trained on photos segments them badly at first.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.data.builders import Files, encoded, record, write_tar

SIZE = (144, 192)  # H, W


def scene(seed: int, shapes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A photo (H, W, 3) uint8 and the masks (M, H, W) of its shapes, which do not overlap."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    y, x = np.mgrid[:height, :width].astype(float)
    colour, contrast = rng.uniform(90, 165, 3), rng.uniform(25, 45, 3)
    ground = rng.normal(0, 1, (height // 6, width // 6)).repeat(6, 0).repeat(6, 1)[..., None]
    photo = colour + contrast * 0.6 * ground
    masks: list[np.ndarray] = []
    for _ in range(50):
        if len(masks) == shapes:
            break
        a, b = rng.uniform(16, 40), rng.uniform(14, 32)
        cx, cy, turn = rng.uniform(a, width - a), rng.uniform(b, height - b), rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        mask = (u / a) ** 2 + (v / b) ** 2 < 1 if rng.random() < 0.5 else (abs(u) < 0.8 * a) & (abs(v) < 0.8 * b)
        if any((mask & other).any() for other in masks):
            continue
        stripes = np.sign(np.sin(u * rng.uniform(0.7, 1.0) + rng.uniform(0, 6)))[..., None]
        photo = np.where(mask[..., None], colour + contrast * stripes, photo)
        masks.append(mask)
    photo = photo + rng.normal(0, 6, photo.shape)
    return np.clip(photo, 0, 255).astype(np.uint8), np.stack(masks)


def write_scenes(path: Path, count: int, start: int = 0, shapes: int = 3) -> Path:
    """A tar of scenes in SA-1B's layout."""
    files: Files = []
    for seed in range(start, start + count):
        photo, masks = scene(seed, shapes)
        files.append((f"scene_{seed}.jpg", encoded(photo, quality=92)))
        files.append((f"scene_{seed}.json", json.dumps(record(masks)).encode()))
    return write_tar(path, files)
