"""Ranges of activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# Inputs of one call of an artifact, by name, in the artifact's own layout.
Sample = dict[str, npt.NDArray[np.float32]]
# Told a tensor's name and its value in one call.
Tell = Callable[[str, Array], None]


@dataclass(frozen=True)
class Range:
    """What an activation is taken to lie in; what lies outside is cut off."""

    low: float
    high: float


# By the tensor's name in the artifact.
Ranges = Mapping[str, Range]
