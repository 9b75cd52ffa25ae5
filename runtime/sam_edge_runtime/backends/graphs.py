"""What the backends share: both graphs of a bundle, each loaded from its file when it is first needed.

So a host that only decodes never holds the encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import GraphContract

Graph = TypeVar("Graph")


class LazyGraphs(ABC, Generic[Graph]):
    """A bundle's two graphs; subclasses say how one is loaded and checked."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def load(self) -> None:
        """Load both graphs now; see `BundleBackend.load`."""
        _ = self._encoder, self._decoder

    @cached_property
    def _encoder(self) -> Graph:
        return self._load(self._bundle.encoder_path, self._bundle.manifest.encoder_contract)

    @cached_property
    def _decoder(self) -> Graph:
        return self._load(self._bundle.decoder_path, self._bundle.manifest.decoder_contract)

    @abstractmethod
    def _load(self, path: Path, contract: GraphContract) -> Graph: ...
