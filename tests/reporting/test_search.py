"""A search's table and plot, from the report of a bundle."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam_edge.reporting.search import (
    COLUMNS,
    described,
    draw_front,
    goal_sentence,
    pareto_front,
    search_of,
    tried_rows,
)


def tried(time: float, loss: float, **changed: str) -> dict:
    return {
        "changed": changed,
        "mask_miou": 1.0 - loss,
        "click_time": time,
        "human_miou": 0.6 - loss,
        "human_loss": loss,
        "human_loss_low": loss - 0.002,
        "human_loss_high": loss + 0.002,
    }


def search() -> dict:
    configurations = [tried(0.5, 0.009), tried(0.6, 0.004, a="w8"), tried(0.7, 0.006, a="w8", b="fp32")]
    chosen = {name: value for name, value in configurations[1].items() if name != "changed"}
    labelled = {"prompts": 48, "measured_photos": 8, "data": "coco/val.tar", "fp32_miou": 0.6, "confidence": 0.95}
    labelled["left_out"] = {"calibration_photos": 2}
    return {"loss": 0.005, "decided_by": "mean", "tried": configurations, "chosen": chosen, "labelled": labelled}


def test_every_configuration_has_a_row_with_both_figures():
    rows = tried_rows(search())
    assert [row.chosen for row in rows] == [False, True, False]
    assert all(len(row.cells) == len(COLUMNS) for row in rows)
    assert rows[1].cells == ("1 in w8", "0.600", "", "", "0.9960", "0.5960", "0.0040 (0.0020..0.0060)", "chosen")
    assert described({}) == "none"
    assert described({"a": "w8", "b": "fp32", "c": "w8"}) == "2 in w8, 1 in fp32"


def test_a_sentence_says_what_decided():
    assert goal_sentence({"bound": 0.98}) == "decided by mask mIoU with fp32, bound 0.98"
    sentence = goal_sentence(search())
    for words in ("at most 0.005", "48 prompts on 8 photos of coco/val.tar", "0.95", "2 calibration photos left out"):
        assert words in sentence


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"quantization": []},
        {"quantization": {"search": {"tried": [{"changed": {}}]}}},
        {"quantization": {"search": {"tried": [{"changed": {}, "mask_miou": "1"}]}}},
        {"quantization": {"search": {"tried": []}}},
    ],
)
def test_a_report_without_a_search_has_none(report):
    assert search_of(report) is None


def test_the_search_of_a_report():
    assert search_of({"quantization": {"search": search()}}) == search()


def test_the_front_holds_what_nothing_surpasses_in_both():
    assert pareto_front([(0.7, 1.0), (0.5, 3.0), (0.6, 1.0), (0.8, 0.5), (0.5, 4.0)]) == [
        (0.5, 3.0),
        (0.6, 1.0),
        (0.8, 0.5),
    ]


@pytest.mark.parametrize("timed", [True, False])
def test_the_plot_marks_the_chosen_configuration(tmp_path, timed):
    document = search()
    if not timed:
        for each in (*document["tried"], document["chosen"]):
            del each["click_time"]
    draw_front(tmp_path / "front.png", document)
    pixels = np.asarray(Image.open(tmp_path / "front.png").convert("RGB")).astype(int)
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 80) & (pixels[..., 2] < 80)
    blue = (pixels[..., 2] > 150) & (pixels[..., 0] < 80)
    assert red.sum() > 100
    assert blue.sum() > 100
