"""The fp32 torch model as a backend of the runtime: the reference that every bundle is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE, FrameSize
from sam_edge_runtime.errors import BackendError, first_line

from . import DecoderGraph, EncoderGraph, Sam


class TorchBackend:
    """Runs the plain graphs in fp32 on the CPU, in any frame and with any number of prompts and slots."""

    engine = "torch"

    def __init__(self, sam: Sam) -> None:
        self.sam = sam
        self._encoder = EncoderGraph(sam).eval()
        self._decoders: dict[FrameSize, DecoderGraph] = {}

    @torch.inference_mode()
    def encode(self, image: Float32) -> Float32:
        """Encode an image.

        Args:
            image: `(1, 3, H, W)` float32 RGB in 0..255.

        Returns:
            Embeddings `(1, C, H/16, W/16)`.

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
        """Mask logits `(B, 4, H/4, W/4)` and IoU predictions `(B, 4)`; see `sam_edge_runtime.backends.Backend`.

        Raises:
            BackendError: torch fails, for example for lack of memory.
        """
        inputs = (image_embeddings, point_coords, point_labels, mask_input, has_mask_input)
        with _as_backend_errors("decode"):
            masks, iou = self._decoder_for(image_embeddings)(*(torch.from_numpy(array) for array in inputs))
        return masks.numpy(), iou.numpy()

    def _decoder_for(self, embeddings: Float32) -> DecoderGraph:
        """The decoder for the frame of embeddings `(1, C, H/16, W/16)`."""
        rows, columns = embeddings.shape[2:]
        frame = FrameSize(rows * EMBEDDING_STRIDE, columns * EMBEDDING_STRIDE)
        if frame not in self._decoders:
            self._decoders[frame] = DecoderGraph(self.sam, frame=frame).eval()
        return self._decoders[frame]


@contextmanager
def _as_backend_errors(action: str) -> Iterator[None]:
    """Turn torch's errors into a BackendError of one line."""
    try:
        yield
    except RuntimeError as error:
        raise BackendError(f"torch failed to {action} ({first_line(error)})") from error
