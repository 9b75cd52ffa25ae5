"""A whole loop at toy size: nano learns striped shapes from a simulated annotator at a server that answers HTTP."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from sam_edge.cli.app import run

from .scenes import write_scenes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "exporters", "quant", "runtime")),
}
RECIPE = """
model = "nano"
data = ["replaced"]
loss = "ritm"
single_always = true
learning_rate = 5e-4
pretrained_rate = 1.0
warm_up = 5
ema = 0.8
[[phases]]
steps = 40
side = 256
photos = 4
masks = 3
interactions = 3
scale = [0.8, 1.25]
"""
LOOP = """
photos = "pool.tar"
validation = ["val.tar"]
recipe = "toy.toml"
input_side = 256
[annotator]
jitter = 0.02
[[rounds]]
stage = "manual"
photos = 12
[[rounds]]
stage = "semi-automatic"
photos = 12
settings = { points_per_side = 8 }
[[rounds]]
stage = "automatic"
photos = 12
settings = { points_per_side = 8 }
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_masks_a_minute_rise_and_iou_does_not_fall_in_a_loop_that_was_killed(tmp_path, capsys):
    write_scenes(tmp_path / "pool.tar", 40)
    write_scenes(tmp_path / "val.tar", 16, 9000)
    (tmp_path / "toy.toml").write_text(RECIPE)
    (tmp_path / "loop.toml").write_text(LOOP)
    out = tmp_path / "out"
    arguments = ["engine", "run", str(tmp_path / "loop.toml"), "--out", str(out), "--workers", "0"]
    for sign in ("01-manual/masks/*.json", "01-manual/train/losses.jsonl", "02-semi-automatic/bundle"):
        process = subprocess.Popen([sys.executable, "-m", "sam_edge", *arguments], env=ENVIRONMENT)
        while not list(out.glob(sign)) and process.poll() is None:
            time.sleep(0.05)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    first = (out / "01-manual" / "round.json").read_bytes()
    assert run(arguments) == 0
    assert (out / "01-manual" / "round.json").read_bytes() == first
    assert run(["engine", "status", str(out)]) == 0
    assert capsys.readouterr().out.count("complete") == 3
    report = json.loads((out / "report.json").read_bytes())
    assert [each["stage"] for each in report["rounds"]] == ["start", "manual", "semi-automatic", "automatic"]
    rates = [each["work"]["masks_a_minute"] for each in report["rounds"][1:]]
    assert rates == sorted(rates)
    measured = [each["evaluation"][0] for each in report["rounds"]]
    for figures, errors in (
        ([each["box"] for each in measured], [each["box_error"] for each in measured]),
        ([each["clicks"][-1] for each in measured], [each["click_errors"][-1] for each in measured]),
    ):
        for number, (figure, error) in enumerate(zip(figures, errors, strict=True)):
            best = max(range(number + 1), key=figures.__getitem__)
            # The difference of two independent means is rarely larger by chance (95 %).
            assert figure >= figures[best] - 2 * math.hypot(error, errors[best])
        assert figures[-1] > figures[0] + 0.05
        assert all(later >= earlier - 0.03 for earlier, later in pairwise(figures))
    clicks = [each["clicks"][-1] for each in measured]
    assert clicks[-1] > clicks[0] + 0.1
    assert "<script" not in (out / "report.html").read_text()
    assert (out / "loop.png").read_bytes().startswith(b"\x89PNG")
