"""A cache of the reference's outputs, for commands that make or verify several bundles of the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.manifest import Manifest


@dataclass
class ReferenceCache:
    """What a model answered, by its weights and the numbers it was asked with.

    Attributes:
        room: bytes of answers to keep; what comes when they are full is asked anew each time.
        costs: what each block loses in eight bits, by what it was measured with
            (`sam_edge.quantization.mixed_precision`).
    """

    room: int = 512 << 20
    costs: dict[str, Mapping[str, float]] = field(default_factory=dict)
    _answers: dict[bytes, tuple[Float32, ...]] = field(default_factory=dict)

    def behind(self, backend: Backend, manifest: Manifest) -> CachingBackend:
        """`backend`, asked only what is not known yet of the variant and the weights that the manifest names."""
        return CachingBackend(backend, f"{manifest.variant} {manifest.checkpoint}", self)

    def look_up(self, key: bytes, ask: Callable[[], tuple[Float32, ...]]) -> tuple[Float32, ...]:
        """The answer under `key`, or what `ask` returns."""
        if key not in self._answers:
            answer = ask()
            size = sum(array.nbytes for array in answer)
            if size > self.room:
                return answer
            self.room -= size
            self._answers[key] = answer
        return tuple(array.copy() for array in self._answers[key])  # whoever writes to it does not change the next


class CachingBackend:
    """A backend whose answers are kept in `ReferenceCache`."""

    def __init__(self, backend: Backend, weights: str, known: ReferenceCache) -> None:
        self._backend, self._weights, self._known = backend, weights, known
        self.engine = backend.engine

    def encode(self, image: Float32) -> Float32:
        """See `Backend.encode`."""
        (embeddings,) = self._known.look_up(self._key(image), lambda: (self._backend.encode(image),))
        return embeddings

    def decode(
        self,
        image_embeddings: Float32,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
    ) -> tuple[Float32, Float32]:
        """See `Backend.decode`."""
        inputs = (image_embeddings, point_coords, point_labels, mask_input, has_mask_input)
        masks, iou = self._known.look_up(self._key(*inputs), lambda: self._backend.decode(*inputs))
        return masks, iou

    def _key(self, *inputs: Float32) -> bytes:
        """A digest of the weights and of an encoder's one input or a decoder's five."""
        digest = blake2b(self._weights.encode())
        for array in inputs:
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()
