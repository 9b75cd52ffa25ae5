"""The fp32 torch model as a backend of the runtime: the reference that every bundle is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sam_edge_runtime.arrays import Decoded, Features, Float32, TextInputs
from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE, FrameSize, in_contract_order
from sam_edge_runtime.errors import BackendError, first_line

from . import DecoderGraph, EncoderGraph, Sam
from .graphs import decoder_graph


class TorchBackend:
    """Runs the plain graphs in fp32 on the CPU, in any frame and with any number of prompts and slots."""

    engine = "torch"

    def __init__(self, sam: Sam) -> None:
        self.sam = sam
        self._encoder = EncoderGraph(sam).eval()
        self._decoders: dict[FrameSize, DecoderGraph] = {}

    @torch.inference_mode()
    def encode(self, image: Float32) -> Features:
        """The features of an image; see `sam_edge_runtime.backends.Backend`.

        Args:
            image: `(1, 3, H, W)` float32 RGB in 0..255.

        Raises:
            BackendError: torch fails, for example for lack of memory.
        """
        with _as_backend_errors("encode"):
            outputs = self._encoder(torch.from_numpy(image))
        return tuple(each.numpy() for each in (outputs if isinstance(outputs, tuple) else (outputs,)))

    @torch.inference_mode()
    def decode(
        self,
        features: Features,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
        text: TextInputs | None = None,
    ) -> Decoded:
        """Masks and scores of B prompts; see `sam_edge_runtime.backends.Backend`.

        Raises:
            BackendError: torch fails, for example for lack of memory.
        """
        prompts = (point_coords, point_labels, mask_input, has_mask_input, *(text or ()))
        inputs = in_contract_order(self.sam.conventions, features, *prompts)
        with _as_backend_errors("decode"):
            outputs = self._decoder_for(features[0])(*(torch.from_numpy(array) for array in inputs))
        return Decoded(*(each.numpy() for each in outputs))

    def _decoder_for(self, embeddings: Float32) -> DecoderGraph:
        """The decoder for the frame of embeddings `(1, C, H/16, W/16)`."""
        rows, columns = embeddings.shape[2:]
        frame = FrameSize(rows * EMBEDDING_STRIDE, columns * EMBEDDING_STRIDE)
        if frame not in self._decoders:
            self._decoders[frame] = decoder_graph(self.sam, frame=frame).eval()
        return self._decoders[frame]


@contextmanager
def _as_backend_errors(action: str) -> Iterator[None]:
    """Turn torch's errors into a BackendError of one line."""
    try:
        yield
    except RuntimeError as error:
        raise BackendError(f"torch failed to {action} ({first_line(error)})") from error
