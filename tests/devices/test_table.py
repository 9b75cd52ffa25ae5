"""Tables: every figure with its device, every missing one as a dash, and failures with reasons."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from sam_edge.devices.table import device_tables
from sam_edge.devices.timing import BundleUnderTest, Device, Failure, Figures, GraphTiming, Operator, Spread, Tool
from sam_edge_runtime.errors import BackendError

PHONE = Device("Acme Phone 9", "Acme X1", "Android 14", "arm64-v8a")
MAC = Device("Mac16,1", "Apple M4", "macOS 15.1", "arm64")
SUBJECT = BundleUnderTest("nano", "nano", "fp32", "tflite", "decoder", 8, 3_109_136)
TIMING = GraphTiming(
    SUBJECT,
    PHONE,
    Tool("benchmark_model"),
    "cpu",
    4,
    Figures(87.639, 106.436, None, Spread(50, 12.345, 0.26, 11.5, 14.0, median=12.25), 17_000_000, None, "whole"),
    (Operator("CONV [2D]", 3, 9.0, 0.75, "delegate"), Operator("ADD", 2, 3.0, 0.25)),
    "a remark",
)


def drawn(*tables) -> str:
    console = Console(file=io.StringIO(), width=300)
    for table in tables:
        console.print(table)
    return console.file.getvalue()


def test_a_row_has_its_figures_and_dashes():
    text = drawn(*device_tables([TIMING]))
    assert text.count("Acme Phone 9, Acme X1, Android 14, arm64-v8a") == 2  # times, and places
    (row,) = [line for line in text.splitlines() if "a remark" in line]
    cells = [cell.strip() for cell in row.strip("│┃").split("│")]
    assert cells[:3] == ["nano", "decoder, 8 prompts", "cpu, 4 threads"]
    assert cells[3:15] == ["87.6", "106", "-", "12.3", "0.26", "11.5", "12.2", "-", "-", "-", "14.0", "50"]
    assert cells[15:] == ["17.0", "-", "3.1", "whole; a remark"]


def test_each_device_has_its_tables_and_none_is_empty():
    failed = Failure(SUBJECT, MAC, Tool("benchmark_model"), "gpu", 1, "no [OpenCL] on it")
    phone, places, failures = device_tables([failed, TIMING])[1:] + device_tables([failed, TIMING])[:1]
    assert "no [OpenCL] on it" in drawn(failures)
    assert "Mac16,1" in drawn(failures)
    assert "Mac16,1" not in drawn(phone, places)
    assert device_tables([]) == []
    assert len(device_tables([replace(TIMING, operators=())])) == 1


def test_rows_are_json():
    document = json.loads(json.dumps(asdict(TIMING)))
    assert document["figures"]["steady"]["median"] == 12.25
    assert document["device"]["chip"] == "Acme X1"
    assert document["operators"][1] == {"kind": "ADD", "count": 2, "ms": 3.0, "share": 0.25, "unit": ""}


@pytest.mark.parametrize(
    "changes", [{"count": 0}, {"mean": float("nan")}, {"std": -1.0}, {"least": 13.0}, {"most": 12.0}, {"median": 15.0}]
)
def test_figures_that_contradict_each_other_are_refused(changes):
    with pytest.raises(BackendError):
        replace(TIMING.figures.steady, **changes)


def test_a_device_without_a_name_has_no_figures():
    with pytest.raises(BackendError, match="reports no model or no system"):
        Device("", "X1", "Android 14", "arm64-v8a")
