"""Fixtures that tests of several targets share."""

from __future__ import annotations

import pytest

from sam_edge.model.torch_backend import TorchBackend
from sam_edge.weights.load import find_source, load_sam
from tests.conftest import SMALL_SIDE


@pytest.fixture(scope="session")
def torch_nano() -> TorchBackend:
    """nano in fp32 torch, on frames of `SMALL_SIDE`."""
    return TorchBackend(load_sam("nano", find_source("nano", None), SMALL_SIDE).sam)
