"""The torch backend reports failures as the runtime's errors, in one line."""

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


def call(backend: TorchBackend, action: str) -> None:
    """One call with an input that the model cannot take: an image of five channels, embeddings of seven."""
    if action == "encode":
        backend.encode(np.zeros((1, 5, 1024, 1024), np.float32))
        return
    backend.decode(
        (np.zeros((1, 7, 64, 64), np.float32),),
        np.zeros((1, 1, 2), np.float32),
        np.ones((1, 1), np.float32),
        np.zeros((1, 1, 256, 256), np.float32),
        np.zeros(1, np.float32),
    )


@pytest.mark.parametrize("action", ["encode", "decode"])
def test_an_error_of_torch_becomes_a_backend_error(backend, action):
    with pytest.raises(BackendError, match=f"^torch failed to {action} \\(.+\\)$") as caught:
        call(backend, action)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("action", ["encode", "decode"])
@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError])
def test_only_the_first_line_of_torch_s_message_is_passed_on(backend, action, error, monkeypatch):
    def full(self, *inputs):
        raise error("can't allocate memory: you tried to allocate 9 bytes\nC++ CapturedTraceback:\n#4 ...")

    monkeypatch.setattr("torch.nn.Module.__call__", full)
    with pytest.raises(BackendError) as caught:
        call(backend, action)
    assert str(caught.value) == f"torch failed to {action} (can't allocate memory: you tried to allocate 9 bytes)"


def test_an_error_without_a_message_is_named_by_its_class(backend, monkeypatch):
    def fail(self, *inputs):
        raise RuntimeError

    monkeypatch.setattr("torch.nn.Module.__call__", fail)
    with pytest.raises(BackendError, match=r"\(RuntimeError\)"):
        call(backend, "encode")
