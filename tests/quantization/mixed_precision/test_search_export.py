"""`sam-edge export --precision auto` from end to end: both drivers, and a loss on human masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sam_edge.cli.app import run
from sam_edge.data.sample_photos import sample_paths
from sam_edge_runtime.bundle.bundle import SEARCH_PLOT, Bundle
from tests.data.builders import encoded, picture, record, write_tar

pytestmark = pytest.mark.slow


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Eight photos of a bright disc on a ramp, with the disc as the human mask."""
    files = []
    rows, columns = np.mgrid[:240, :320]
    for seed in range(8):
        disc = np.hypot(columns - 90 - 18 * seed, rows - 120) < 50
        pixels = picture(seed, (240, 320))
        pixels[disc] = (245, 230, 40)
        files += [(f"p{seed}.jpg", encoded(pixels)), (f"p{seed}.json", json.dumps(record(disc[None])).encode())]
    return write_tar(tmp_path / "val.tar", files)


@pytest.mark.parametrize("tuner", ["sam-edge", "neural-compressor"])
def test_human_masks_decide_whoever_drives(tmp_path, labelled, tuner, capsys):
    if tuner == "neural-compressor":
        pytest.importorskip("neural_compressor", reason="an extra, which Python 3.10 has not")
    out = tmp_path / "bundle"
    arguments = ["--precision", "auto", "--labelled", str(labelled), "--loss", "0.3", "--confidence", "0.9"]
    calibration = str(sample_paths()[0].parent)
    arguments += ["--tuner", tuner, "--budget", "20", "--calibration", calibration, "--photos", "2"]
    assert run(["export", *arguments, "--out", str(out)]) == 0
    assert not (tmp_path / "bundle.trials.json").exists()
    bundle = Bundle.open(out)
    search = bundle.report()["quantization"]["search"]
    assert search["loss"] == 0.3
    assert search["chosen"]["human_loss_high"] <= 0.3
    assert search["labelled"]["measured_photos"] == 8
    assert search["labelled"]["prompts"] == 24  # one mask a photo, three kinds of prompts
    assert search["labelled"]["fp32_miou"] > 0.5  # nano finds a bright disc
    assert ("tuner" in search) is (tuner == "neural-compressor")
    assert bundle.manifest.recipe["loss"] == 0.3
    assert SEARCH_PLOT in bundle.manifest.files
    capsys.readouterr()
    assert run(["info", str(out)]) == 0
    assert "decided by human masks" in capsys.readouterr().out
    again = tmp_path / "again"
    assert run(["export", "--recipe", str(out / "recipe.json"), "--photos", "2", "--out", str(again)]) in (0, 1)
    assert Bundle.open(again).manifest.precision in {"custom", "w8a8"}
