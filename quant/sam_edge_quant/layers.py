"""Fingerprints of weights, by which an artifact's operations are matched to the network's layers.

Converters rename, transpose and reorder, each differently, but keep a weight's numbers. So a layer is identified by the
numbers of its weight in any order. An operation whose weight a converter changed matches no layer; it stays in float
and is reported.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from sam_edge_runtime.arrays import Array


def fingerprint(weight: Array) -> str:
    """A digest of a weight's numbers in float32, independent of their order and shape.

    Negative zeros count as zeros: rounded weights have many of both, and sorting does not order them.
    """
    return blake2b(np.sort(np.asarray(weight, np.float32) + 0.0, axis=None).tobytes(), digest_size=16).hexdigest()
