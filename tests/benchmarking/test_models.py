"""`benchmarks/models.py`: parameters and compute of every model, for the documentation's page of models."""

from __future__ import annotations

from benchmarks.models import counted
from benchmarks.tables.models import models_cost_table, models_table
from benchmarks.tables.results import read
from sam_edge.model import VARIANTS
from sam_edge.weights.catalogue import RELEASES, SHIPPED


def test_every_model_was_counted_and_has_its_parameters():
    rows = {row["variant"]: row for row in read("models")["models"]}
    assert list(rows) == list(VARIANTS)
    for variant, weights in {**SHIPPED, **RELEASES}.items():
        assert rows[variant]["parameters"] == weights.parameters
        assert rows[variant]["side"] == weights.input_side


def test_counts_are_reproduced_and_agree_with_another_count():
    """nano has no windows, so its plain encoder, which `scaling.py` ran, has the same products."""
    row = counted("nano")
    assert row == next(each for each in read("models")["models"] if each["variant"] == "nano")
    other = next(
        each["flop"]
        for each in read("scaling")["rows"]
        if (each["graph"], each["variant"], each["side"]) == ("encoder", "nano", row["side"])
    )
    assert row["encoder"] == other // 2
    assert 0.1e9 < row["click"] < 1e9


def test_tables_show_what_was_measured_and_leave_the_rest_empty():
    row = {"variant": "vit_b", "side": 1024, "parameters": 93_735_472, "encoder": 4.5e11, "click": 1.25e9}
    steps = {"encode": {"p50": 3.3176}, "click": {"p50": 0.0145}}
    measured = {"here": {"variants": {"vit_b": {"rows": [{"kind": "sam-edge onnx", "steps": steps}]}}}}
    shown = models_cost_table([row, {**row, "variant": "vit_h"}], measured).splitlines()
    assert shown[0] == "| model | side | encoder, GMAC | click, GMAC | encoder, ms, here | click, ms, here |"
    assert shown[2:] == [
        "| `vit_b` | 1024 | 450.0 | 1.25 | 3,318 | 14.5 |",
        "| `vit_h` | 1024 | 450.0 | 1.25 |  |  |",
    ]
    assert models_table([row]).splitlines()[2].startswith("| `vit_b` | SAM | 93.7 | 375 | Apache-2.0 | [dl.fbaipublic")
