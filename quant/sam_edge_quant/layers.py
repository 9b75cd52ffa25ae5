"""Which of an artifact's operations is which of the network's layers.

Converters rename, transpose and reorder, each in its own way, but they leave the numbers of a weight alone. So a layer
is known by the numbers of its weight in whatever order. An operation whose weight a converter changed has no name; it
stays in float and is reported.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt


def fingerprint(weight: npt.NDArray[Any]) -> str:
    """A digest of a weight's numbers in float32, whatever their order and shape.

    Zero has one sign: rounded weights have many of both, which sorting leaves in the order in which they were found.
    """
    return blake2b(np.sort(np.asarray(weight, np.float32) + 0.0, axis=None).tobytes(), digest_size=16).hexdigest()
