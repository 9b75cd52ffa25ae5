"""The photo that is measured on: the user's own, or a bundle's golden picture at the size of SA-1B's photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_edge_runtime.agreement.golden import Golden
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.photo.read import read_photo

SIZE = (1500, 2250)  # (H, W) of a released SA-1B photo


def benchmark_photo(bundle: Bundle, path: Path | None = None) -> npt.NDArray[np.uint8]:
    """A photo `(H, W, 3)` uint8: the file's, or the bundle's first golden picture enlarged to 1500 x 2250.

    A bundle without golden pictures gets noise. A real picture is better: the model finds an object in it, and the
    time to upscale a mask may depend on the mask.

    Raises:
        PhotoError: the file is no photo.
        BundleError: the golden pictures are damaged.
    """
    if path is not None:
        return read_photo(path)
    if bundle.golden_path is None:
        return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    picture = Image.fromarray(Golden.load(bundle.golden_path, bundle.manifest).pictures[0])
    return np.asarray(picture.resize(SIZE[::-1], Image.Resampling.BICUBIC))
