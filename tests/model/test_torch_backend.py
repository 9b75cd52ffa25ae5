"""The torch backend's failures are of the runtime's error tree, in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_edge.model.image_encoder import ImageEncoderViT
from sam_edge.model.sam import Sam
from sam_edge.model.torch_backend import TorchBackend
from sam_edge_runtime.errors import BackendError
from tests.model.builders import NARROW


@pytest.fixture(scope="module")
def backend() -> TorchBackend:
    return TorchBackend(Sam(ImageEncoderViT(NARROW)))


def ask(backend: TorchBackend, what: str) -> None:
    """One call with an input that the model cannot take: a picture of five channels, embeddings of seven."""
    if what == "encode":
        backend.encode(np.zeros((1, 5, 1024, 1024), np.float32))
        return
    backend.decode(
        np.zeros((1, 7, 64, 64), np.float32),
        np.zeros((1, 1, 2), np.float32),
        np.ones((1, 1), np.float32),
        np.zeros((1, 1, 256, 256), np.float32),
        np.zeros(1, np.float32),
    )


@pytest.mark.parametrize("what", ["encode", "decode"])
def test_what_torch_refuses_is_a_backend_error(backend, what):
    with pytest.raises(BackendError, match=f"^torch failed to {what} \\(.+\\)$") as caught:
        ask(backend, what)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("what", ["encode", "decode"])
@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError])
def test_only_the_first_line_of_torchs_message_is_passed_on(backend, what, error, monkeypatch):
    def full(self, *inputs):
        raise error("can't allocate memory: you tried to allocate 9 bytes\nC++ CapturedTraceback:\n#4 ...")

    monkeypatch.setattr("torch.nn.Module.__call__", full)
    with pytest.raises(BackendError) as caught:
        ask(backend, what)
    assert str(caught.value) == f"torch failed to {what} (can't allocate memory: you tried to allocate 9 bytes)"


def test_a_message_that_is_empty_names_the_error(backend, monkeypatch):
    def fail(self, *inputs):
        raise RuntimeError

    monkeypatch.setattr("torch.nn.Module.__call__", fail)
    with pytest.raises(BackendError, match=r"\(RuntimeError\)"):
        ask(backend, "encode")
