"""Whole runs of export, annotate and train are killed at 200 random moments, with SIGKILL and SIGTERM.

After each kill the output is whole under its name, or not there. The next run goes on or starts again, and in the end
nothing is left of the killed ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from sam_edge.training.checkpoint import checkpoints, read_training_state
from sam_edge_runtime.bundle.bundle import Bundle
from tests.annotation.test_annotate import arguments as annotation
from tests.annotation.test_annotate import shards as shards_of
from tests.data.builders import pairs, write_tar
from tests.runtime.standin import write_onnx_bundle
from tests.training.test_trainer import RECIPE, STEPS, losses, write_shards
from tests.training.test_trainer import arguments as training

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork and no SIGKILL"),
]
EXPORTS, ANNOTATIONS, TRAININGS = 66, 66, 68  # kills of each; together 200
COLD = 4  # of the exports and trainings: runs in a fresh process that imports and converts all by itself
LANES = 2  # runs side by side, each in a folder of its own
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "exporters", "quant", "runtime")),
}
Kill = Callable[[], None]
Start = Callable[[list[str]], "Running"]


class Running:
    """A run that can be killed."""

    def __init__(self, pid: int, wait: Callable[[], int], *, group: bool = False) -> None:
        self.pid, self.wait, self.group = pid, wait, group

    def kill(self, number: signal.Signals, *, all_of_it: bool = False) -> None:
        """Send a signal to the run, or to the processes that it started too."""
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(self.pid, number) if all_of_it and self.group else os.kill(self.pid, number)


def cold(arguments: list[str]) -> Running:
    """A run as a user starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sam_edge", *arguments],
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return Running(process.pid, process.wait, group=True)


@contextlib.contextmanager
def warm(log: Path, *converted: Path) -> Iterator[Start]:
    """Runs in forks of one warm process, one at a time."""
    command = [sys.executable, "-m", "tests.kills.warm", str(log), *map(str, converted)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        log.open("a") as errors,
        subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=errors, **pipes) as server,
    ):

        def start(arguments: list[str]) -> Running:
            server.stdin.write(json.dumps(arguments) + "\n")
            server.stdin.flush()
            return Running(int(server.stdout.readline()), lambda: int(server.stdout.readline()))

        yield start
        server.stdin.close()


def seconds_of(run: Callable[[], int]) -> float:
    """How long an undisturbed run takes; it has to succeed."""
    start = time.monotonic()
    assert run() == 0
    return time.monotonic() - start


class Killer:
    """Kills runs at random moments, half of them anywhere and half in their last third, where most is written."""

    def __init__(self, seed: int, length: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.length = length
        self.killed = 0

    def kill(self, running: Running) -> int:
        """Kill a run; its exit code, which is its own if it ended before."""
        late = self.rng.random() < 0.5
        time.sleep(self.length * float(self.rng.uniform(0.66, 1.0) if late else self.rng.uniform(0.0, 1.0)))
        number = signal.SIGKILL if self.rng.random() < 0.5 else signal.SIGTERM
        running.kill(number, all_of_it=self.rng.random() < 0.5)
        code = running.wait()
        self.killed += code == -number
        assert code in {0, -number}, f"the run ended with {code} by itself"
        return code


def in_lanes(lane: Callable[[int], int]) -> int:
    """Run lanes side by side; the sum of their kills."""
    with ThreadPoolExecutor(LANES) as pool:
        return sum(pool.map(lane, range(LANES)))


def age(folder: Path) -> None:
    """Make everything in a folder look old, so that what killed runs left counts as left behind."""
    for path in folder.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)


def staged(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith((".partial", ".old"))]


def test_a_killed_export_leaves_the_earlier_bundle(tmp_path):
    export = ["export", "--model", "nano", "--input-size", "256", "--overwrite", "--out"]
    first = tmp_path / "first"
    length_of_cold = seconds_of(cold([*export, str(first)]).wait)
    expected = {path.name for path in first.iterdir()}

    def lane(number: int) -> int:
        out = tmp_path / f"lane {number}" / "bundle"
        with warm(tmp_path / "log", first) as start:
            killer = Killer(number, seconds_of(start([*export, str(out)]).wait))
            while killer.killed < EXPORTS // LANES:
                killer.kill(start([*export, str(out)]))
                check(out)
            killer.length = length_of_cold
            for _ in range(COLD // LANES):
                killer.kill(cold([*export, str(out)]))
                check(out)
            age(out.parent)
            assert start([*export, str(out)]).wait() == 0
        assert [path.name for path in out.parent.iterdir()] == ["bundle"]
        check(out)
        return killer.killed

    def check(out: Path) -> None:
        bundle = Bundle.open(out)  # with all hashes
        assert {path.name for path in bundle.root.iterdir()} == expected
        assert bundle.report()["passed"]

    assert in_lanes(lane) >= EXPORTS


def test_a_killed_annotation_goes_on_and_gives_the_same_shards(tmp_path):
    bundle, shard = write_onnx_bundle(tmp_path / "bundle").root, write_tar(tmp_path / "in.tar", pairs(12))
    whole = tmp_path / "whole"
    length = seconds_of(cold(annotation(shard, bundle, whole)).wait)
    expected, settings = shards_of(whole), (whole / "annotation.json").read_bytes()
    assert len(expected) == 3

    def lane(number: int) -> int:
        killer, runs = Killer(number, length), 0
        while killer.killed < ANNOTATIONS // LANES:
            runs += 1
            out = tmp_path / f"lane {number}" / f"{runs}"
            while killer.killed < ANNOTATIONS // LANES:
                processes = str(killer.rng.integers(1, 3))
                code = killer.kill(cold(annotation(shard, bundle, out, "--processes", processes)))
                check(out)
                if code == 0:
                    break
            age(out)
            assert cold(annotation(shard, bundle, out)).wait() == 0
            assert shards_of(out) == expected
            assert sorted(path.name for path in out.iterdir()) == ["annotation.json", *expected]
        return killer.killed

    def check(out: Path) -> None:
        for name, content in shards_of(out).items() if out.exists() else ():
            assert content == expected[name]
        for path in out.rglob("*.json"):
            document = json.loads(path.read_bytes())
            assert path.name != "annotation.json" or path.read_bytes() == settings
            assert path.name == "annotation.json" or document["annotations"]

    assert in_lanes(lane) >= ANNOTATIONS


def test_a_killed_training_resumes_to_the_same_weights(tmp_path):
    recipe, data = tmp_path / "tiny.toml", write_shards(tmp_path / "data")
    recipe.write_text(RECIPE)
    whole = tmp_path / "whole"
    more = ("--save-every", "1", "--picture-every", "3")
    length_of_cold = seconds_of(cold(training(recipe, data, whole, *more)).wait)
    weights, steps = load_file(whole / "model.safetensors"), losses(whole)
    assert len(steps) == STEPS

    def lane(number: int) -> int:
        with warm(tmp_path / "log") as start:
            length = seconds_of(start(training(recipe, data, tmp_path / f"first {number}", *more)).wait)
            killer, runs = Killer(number, length), 0
            while killer.killed < TRAININGS // LANES:
                runs += 1
                out = tmp_path / f"lane {number}" / f"{runs}"
                while killer.killed < TRAININGS // LANES:
                    fresh = killer.killed >= TRAININGS // LANES - COLD // LANES
                    killer.length = length_of_cold if fresh else length
                    code = killer.kill((cold if fresh else start)(command(out)))
                    check(out)
                    if code == 0:
                        break
                if code != 0:
                    age(out)
                    assert start(command(out)).wait() == 0
                    assert not staged(out)
                assert losses(out) == steps
                check(out)
                assert (out / "model.safetensors").exists()
        return killer.killed

    def command(out: Path) -> list[str]:
        resume = ["--resume"] if (out / "recipe.json").exists() else []
        return training(recipe, data, out, *more, *resume)

    def check(out: Path) -> None:
        for path in checkpoints(out):
            assert read_training_state(path).step == int(path.stem.removeprefix("step-"))
        assert len(checkpoints(out)) <= 3  # the last two, and one that was just to be removed
        for path in out.glob("*.json"):
            json.loads(path.read_bytes())
        if (out / "model.safetensors").exists():
            for name, values in load_file(out / "model.safetensors").items():
                np.testing.assert_array_equal(values, weights[name], err_msg=name)

    assert in_lanes(lane) >= TRAININGS
