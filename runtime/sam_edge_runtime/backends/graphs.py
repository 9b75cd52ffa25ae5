"""Base class of the backends: loads each graph of a bundle on first use.

A process that only decodes never loads the encoder, and one whose photos have one shape loads the graphs of one frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE, FrameSize, GraphContract

Graph = TypeVar("Graph")


class LazyGraphs(ABC, Generic[Graph]):
    """The graphs of a bundle, by frame; subclasses load and check one graph."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._manifests = {each.frame: each for each in bundle.manifest.each_frame()}
        self._encoders: dict[FrameSize, Graph] = {}
        self._decoders: dict[FrameSize, Graph] = {}

    def load(self, frame: FrameSize | None = None) -> None:
        """Load both graphs of a frame now; see `BundleBackend.load`."""
        frame = frame or self._bundle.manifest.frame
        self._encoder(frame)
        self._decoder(frame)

    def _encoder_for(self, image: Float32) -> Graph:
        """The encoder for an image `(1, 3, H, W)`; that of the first frame where there is none, which refuses it."""
        return self._encoder(self._known(FrameSize(*image.shape[2:])) if image.ndim == 4 else self._known(None))

    def _decoder_for(self, embeddings: Float32) -> Graph:
        """The decoder for embeddings `(1, C, H/16, W/16)`; likewise."""
        if embeddings.ndim != 4:
            return self._decoder(self._known(None))
        rows, columns = embeddings.shape[2:]
        return self._decoder(self._known(FrameSize(rows * EMBEDDING_STRIDE, columns * EMBEDDING_STRIDE)))

    def _known(self, frame: FrameSize | None) -> FrameSize:
        return frame if frame in self._manifests else self._bundle.manifest.frame

    def _encoder(self, frame: FrameSize) -> Graph:
        if frame not in self._encoders:
            manifest = self._manifests[frame]
            path = self._bundle.root / manifest.encoder
            self._encoders[frame] = self._load(path, manifest.encoder_file_contract, frame)
        return self._encoders[frame]

    def _decoder(self, frame: FrameSize) -> Graph:
        if frame not in self._decoders:
            manifest = self._manifests[frame]
            path = self._bundle.root / manifest.decoder
            self._decoders[frame] = self._load(path, manifest.decoder_file_contract, frame)
        return self._decoders[frame]

    @abstractmethod
    def _load(self, path: Path, contract: GraphContract, frame: FrameSize) -> Graph:
        """The graph in `path` for a frame; it must have the tensors of `contract`."""
