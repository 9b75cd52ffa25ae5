"""What several rooms' tests share: a small photo, and one small bundle that `sam-edge export` made."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

SMALL_SIDE = 256
SMALL_POINTS = 4


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """TinyViT with seeded weights at 256 pixels, four slots a prompt. Read only: copy it to change it.

    Made once for all of xdist's workers: it takes most of a minute on a slow machine.
    """
    from sam_edge.cli.app import run

    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    out = shared / "exported" / "bundle"
    with FileLock(shared / "exported.lock"):
        if not out.exists():
            arguments = ["--model", "tiny_vit", "--checkpoint", "random:0", "--input-size", str(SMALL_SIDE)]
            assert run(["export", *arguments, "--points", str(SMALL_POINTS), "--out", str(out)]) == 0
    return out


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may break."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A wide picture of 120 x 80 pixels with a bright disc."""
    y, x = np.mgrid[:80, :120]
    pixels = np.stack([x * 2, y * 3, 255 - x], axis=-1).astype(np.uint8)
    pixels[np.hypot(x - 60, y - 40) < 20] = (240, 230, 60)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path
