"""A cache of the reference's outputs, for commands that make or verify several bundles of the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from sam_edge_runtime.arrays import Decoded, Features, Float32, TextInputs
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.manifest import Manifest

from .calls import text_argument


@dataclass
class ReferenceCache:
    """Outputs of models, by their weights and inputs.

    Attributes:
        capacity: bytes of outputs that may still be stored; once it is used up, further outputs are computed anew in
            each call.
        masks_lost: share of masks that each block loses in INT8, by what it was measured with
            (`sam_edge.quantization.mixed_precision`).
    """

    capacity: int = 512 << 20
    masks_lost: dict[str, Mapping[str, float]] = field(default_factory=dict)
    _outputs: dict[bytes, tuple[Float32, ...]] = field(default_factory=dict)

    def wrap(self, backend: Backend, manifest: Manifest) -> CachingBackend:
        """`backend` with this cache in front of it, for the model and the weights that `manifest` names."""
        return CachingBackend(backend, f"{manifest.variant} {manifest.checkpoint} {manifest.conventions}", self)

    def look_up(self, key: bytes, compute: Callable[[], tuple[Float32, ...]]) -> tuple[Float32, ...]:
        """Copies of the outputs stored under `key`, or what `compute` returns."""
        if key not in self._outputs:
            outputs = compute()
            size = sum(array.nbytes for array in outputs)
            if size > self.capacity:
                return outputs
            self.capacity -= size
            self._outputs[key] = outputs
        return tuple(array.copy() for array in self._outputs[key])  # a caller may write to its own


class CachingBackend:
    """A backend whose outputs are stored in a `ReferenceCache`."""

    def __init__(self, backend: Backend, weights: str, cache: ReferenceCache) -> None:
        self._backend, self._weights, self._cache = backend, weights, cache
        self.engine = backend.engine

    def encode(self, image: Float32) -> Features:
        """See `Backend.encode`."""
        return self._cache.look_up(self._key(image), lambda: self._backend.encode(image))

    def decode(
        self,
        features: Features,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
        text: TextInputs | None = None,
    ) -> Decoded:
        """See `Backend.decode`."""
        prompts = (point_coords, point_labels, mask_input, has_mask_input)
        key = self._key(*features, *prompts, *(text or ()))
        return Decoded(
            *self._cache.look_up(key, lambda: self._backend.decode(features, *prompts, *text_argument(text)).tensors)
        )

    def _key(self, *inputs: Float32) -> bytes:
        """A digest of the weights and of a graph's inputs."""
        digest = blake2b(self._weights.encode())
        for array in inputs:
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()
