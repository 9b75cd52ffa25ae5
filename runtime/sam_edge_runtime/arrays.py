"""Array types used throughout the project."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
"""`(H, W)` bool: True inside the object."""
Photo = npt.NDArray[np.uint8]
"""`(H, W, 3)` uint8: RGB, 0..255."""
Features = tuple[Float32, ...]
"""The image encoder's outputs for a photo: the embedding `(1, C, H/16, W/16)`, then the family's further features."""
Call = dict[str, Float32]
"""Inputs of one call of a graph, by name."""
