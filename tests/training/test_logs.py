"""The two logs of a run, and the interrupt between two steps."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest

from sam_edge.training import interrupt as interrupts
from sam_edge.training.interrupt import Interrupt
from sam_edge.training.logs import StepLog
from sam_edge_runtime.errors import OutputError


def test_lines_after_the_checkpoint_are_removed(tmp_path):
    with StepLog(tmp_path, 0) as log:
        for step in range(5):
            log.add({"step": step, "loss": step / 4})
    with (tmp_path / "losses.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    with StepLog(tmp_path, 3) as log:
        log.add({"step": 3, "loss": 9.0})
    lines = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(0, 0), (1, 0.25), (2, 0.5), (3, 9.0)]


def test_curves_of_a_resumed_run_have_each_step_once(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with StepLog(tmp_path, 0) as log:
        assert log.note == ""
        for step in range(5):
            log.add({"step": step, "loss": 1.0, "iou_at_1": step / 4})
    time.sleep(1.1)  # files of curves are named by the second and read in that order
    with StepLog(tmp_path, 3) as log:
        log.add({"step": 3, "loss": 9.0})
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert sorted(curves.Tags()["scalars"]) == ["iou_at_1", "loss"]
    found = [(event.step, event.value) for event in curves.Scalars("loss")]
    assert found == [(0, 1.0), (1, 1.0), (2, 1.0), (3, 9.0)]


def test_without_tensorboard_there_is_a_note_and_the_run_continues(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with StepLog(tmp_path, 0) as log:
        assert "pip install tensorboard" in log.note
        log.add({"step": 0, "loss": 1.0})
    assert len((tmp_path / "losses.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "tensorboard").exists()


def test_an_unwritable_log_is_named(tmp_path):
    (tmp_path / "losses.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"losses\.jsonl"):
        StepLog(tmp_path, 0)


def test_the_first_interrupt_sets_a_flag_and_a_later_one_raises(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        assert not interrupt.wanted
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.wanted
        os.kill(os.getpid(), signal.SIGINT)  # a launcher's, which forwards the terminal's SIGINT
        monkeypatch.setattr(interrupts, "SAME_WITHIN", -1.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
