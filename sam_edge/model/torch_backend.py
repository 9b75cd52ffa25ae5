"""The fp32 torch model as a backend of the runtime: the reference that every bundle is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.errors import BackendError, first_line

from . import DecoderGraph, EncoderGraph, Sam


class TorchBackend:
    """Runs the plain graphs in fp32 on the CPU, with any number of prompts and slots."""

    engine = "torch"

    def __init__(self, sam: Sam) -> None:
        self.sam = sam
        self._encoder = EncoderGraph(sam).eval()
        self._decoder = DecoderGraph(sam).eval()

    @torch.inference_mode()
    def encode(self, image: Float32) -> Float32:
        """Encode an image.

        Args:
            image: `(1, 3, S, S)` float32 RGB in 0..255.

        Returns:
            Embeddings `(1, C, S/16, S/16)`.

        Raises:
            BackendError: torch fails, for example for lack of memory.
        """
        with _as_backend_errors("encode"):
            embeddings: Float32 = self._encoder(torch.from_numpy(image)).numpy()
        return embeddings

    @torch.inference_mode()
    def decode(
        self,
        image_embeddings: Float32,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
    ) -> tuple[Float32, Float32]:
        """Mask logits `(B, 4, S/4, S/4)` and IoU predictions `(B, 4)`; see `sam_edge_runtime.backends.Backend`.

        Raises:
            BackendError: torch fails, for example for lack of memory.
        """
        inputs = (image_embeddings, point_coords, point_labels, mask_input, has_mask_input)
        with _as_backend_errors("decode"):
            masks, iou = self._decoder(*(torch.from_numpy(array) for array in inputs))
        return masks.numpy(), iou.numpy()


@contextmanager
def _as_backend_errors(action: str) -> Iterator[None]:
    """Turn torch's errors into a BackendError of one line."""
    try:
        yield
    except RuntimeError as error:
        raise BackendError(f"torch failed to {action} ({first_line(error)})") from error
