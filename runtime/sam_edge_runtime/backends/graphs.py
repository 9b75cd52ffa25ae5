"""Base class of the backends: loads each graph of a bundle on first use.

A process that only decodes never loads the encoder.
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
    """The two graphs of a bundle; subclasses load and check one graph."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def load(self) -> None:
        """Load both graphs now; see `BundleBackend.load`."""
        _ = self._encoder, self._decoder

    @cached_property
    def _encoder(self) -> Graph:
        return self._load(self._bundle.encoder_path, self._bundle.manifest.encoder_file_contract)

    @cached_property
    def _decoder(self) -> Graph:
        return self._load(self._bundle.decoder_path, self._bundle.manifest.decoder_file_contract)

    @abstractmethod
    def _load(self, path: Path, contract: GraphContract) -> Graph: ...
