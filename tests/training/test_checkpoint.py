"""Training checkpoints: written atomically, the last two kept, other files refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from sam_edge.training.checkpoint import TrainingState, checkpoints, read_training_state, save_state
from sam_edge_runtime.errors import CheckpointError, OutputError


def state(step: int) -> TrainingState:
    weights = {"a.weight": torch.full((2, 3), float(step)).to(memory_format=torch.contiguous_format)}
    return TrainingState(
        step, {"seed": 3, "phases": [{"steps": 2}]}, weights, weights, {"exp_avg/a.weight": torch.ones(3)}
    )


def test_a_saved_state_is_read_back(tmp_path):
    found = read_training_state(save_state(tmp_path, state(7)))
    assert (found.step, found.recipe) == (7, {"seed": 3, "phases": [{"steps": 2}]})
    assert torch.equal(found.model["a.weight"], torch.full((2, 3), 7.0))
    assert list(found.optimizer) == ["exp_avg/a.weight"]


def test_the_last_two_checkpoints_are_kept(tmp_path):
    for step in (1, 2, 10):
        save_state(tmp_path, state(step))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002.safetensors", "step-00000010.safetensors"]


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    save_state(tmp_path, state(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr("pathlib.Path.rename", full)
    monkeypatch.setattr("pathlib.Path.replace", full)
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="no space"):
        save_state(tmp_path, state(2))
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001.safetensors"]
    assert read_training_state(checkpoints(tmp_path)[0]).step == 1


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "weights.safetensors")
    whole = save_state(tmp_path, state(1)).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.safetensors").write_text("no tensors")
    for name in ("weights", "cut", "text"):
        with pytest.raises(CheckpointError, match="is no training checkpoint") as caught:
            read_training_state(tmp_path / f"{name}.safetensors")
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="start the run without --resume"):
        read_training_state(tmp_path / "missing.safetensors")
