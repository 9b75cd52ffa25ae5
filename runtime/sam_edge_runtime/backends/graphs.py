"""Base class of the backends: loads each graph of a bundle on first use.

A process that only decodes never loads the encoder, and one whose photos have one shape loads the graphs of one frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

from sam_edge_runtime.arrays import Features, Float32
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE, FrameSize, GraphContract

Graph = TypeVar("Graph")
ENCODER, DECODER = "encoder", "decoder"


class LazyGraphs(ABC, Generic[Graph]):
    """The graphs of a bundle, by frame; subclasses load and check one graph."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._manifests = {each.frame: each for each in bundle.manifest.each_frame()}
        self._graphs: dict[tuple[str, FrameSize], Graph] = {}

    def load(self, frame: FrameSize | None = None) -> None:
        """Load both graphs of a frame now; see `BundleBackend.load`."""
        frame = frame or self._bundle.manifest.frame
        self._graph(ENCODER, frame)
        self._graph(DECODER, frame)

    def _encoder_for(self, image: Float32) -> Graph:
        """The encoder for an image `(1, 3, H, W)`; that of the first frame where there is none, which refuses it."""
        return self._graph(ENCODER, self._known(image, stride=self._bundle.manifest.conventions.image_stride))

    def _decoder_for(self, features: Features) -> Graph:
        """The decoder for the features of a photo; likewise."""
        return self._graph(DECODER, self._known(features[0], stride=EMBEDDING_STRIDE))

    def _known(self, maps: Float32, stride: int) -> FrameSize:
        frame = FrameSize(*(size * stride for size in maps.shape[2:])) if maps.ndim == 4 else None
        return frame if frame in self._manifests else self._bundle.manifest.frame

    def _graph(self, part: str, frame: FrameSize) -> Graph:
        """The encoder or decoder of a frame."""
        if (part, frame) not in self._graphs:
            manifest = self._manifests[frame]
            if part == ENCODER:
                file, contract = manifest.encoder, manifest.encoder_file_contract
            else:
                file, contract = manifest.decoder, manifest.decoder_file_contract
            self._graphs[part, frame] = self._load(self._bundle.root / file, contract, frame)
        return self._graphs[part, frame]

    @abstractmethod
    def _load(self, path: Path, contract: GraphContract, frame: FrameSize) -> Graph:
        """The graph in `path` for a frame; it must have the tensors of `contract`."""
