"""The host benchmark: fresh processes, interleaved rounds, and the document that it returns."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from sam_edge_runtime.backends import BackendOptions
from sam_edge_runtime.benchmark import host, rounds
from sam_edge_runtime.benchmark.__main__ import main
from sam_edge_runtime.benchmark.host import Contestant, contestants, measure
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.benchmark.photo import SIZE, benchmark_photo
from sam_edge_runtime.benchmark.process import Worker
from sam_edge_runtime.benchmark.rounds import LEAST_ROUNDS, Rounds, interleave
from sam_edge_runtime.benchmark.spread import ratios, spread
from sam_edge_runtime.benchmark.steps import STEPS
from sam_edge_runtime.errors import BackendError, UsageError
from tests.runtime.standin import SIDE, manifest, write_onnx_bundle

PHOTO = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
# A worker that reports its first argument as the seconds of every step.
SLOW = """
import sys, time
from sam_edge_runtime.benchmark.worker import serve
from sam_edge_runtime.benchmark.steps import STEPS
serve(lambda job: (lambda: {step: float(sys.argv[1]) for step in STEPS}, {"photo": job["photo"]}))
"""


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    return write_onnx_bundle(folder)


def test_a_document_has_every_figure_of_every_bundle(bundle):
    reports = []
    entries = contestants({"a": bundle}, (1, 2))
    document = measure(entries, PHOTO, Rounds(4, warm_up=1), lambda *report: reports.append(report))
    assert json.loads(json.dumps(document)) == document
    assert [row["name"] for row in document["bundles"]] == ["a, 1 thread", "a, 2 threads"]
    assert document["photo"] == {"height": 90, "width": 120}
    assert (document["rounds"], document["warm_up"]) == (4, 1)
    for row in document["bundles"]:
        assert set(row["steps"]) == set(STEPS)
        for step in STEPS:
            samples = row["samples"][step]
            assert len(samples) == 4
            assert min(samples) > 0
            assert row["steps"][step]["p50"] == pytest.approx(np.median(samples))
        assert row["cold"]["to the first mask"] == pytest.approx(sum(list(row["cold"].values())[:-1]))
        assert row["cold"]["start"] > 0.01  # Python and numpy take longer than that on any machine
        assert 0 < row["memory"]["idle"] <= row["memory"]["loaded"] <= row["memory"]["peak"]
        assert row["per_second"]["photos"] == pytest.approx(4 / sum(row["samples"]["encode"]))
        assert (row["runtime"], row["delegate"]) == ("ONNX Runtime", "CPU")
        assert row["runtime_version"].count(".") >= 1
    first, second = document["bundles"]
    assert (first["threads"], second["threads"]) == (1, 2)
    pairs = zip(second["samples"]["encode"], first["samples"]["encode"], strict=True)
    assert second["ratio"]["encode"]["p50"] == pytest.approx(np.median([ours / theirs for ours, theirs in pairs]))
    assert first["ratio"]["click"]["p50"] == 1.0
    assert ("measuring", 1, 5) in reports


def test_no_measurement_always_follows_the_same_other_one():
    order = []
    measurements = [lambda name=name: order.append(name) or f"{name}{order.count(name)}" for name in "abc"]
    samples = interleave(measurements, Rounds(3, warm_up=1))
    assert "".join(order) == "abccbabcaacb"
    assert samples == [["a2", "a3", "a4"], ["b2", "b3", "b4"], ["c2", "c3", "c4"]]


@pytest.mark.parametrize("least", [1, LEAST_ROUNDS, 5])
def test_a_budget_ends_the_rounds_but_not_before_the_least(monkeypatch, least):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(rounds.time, "monotonic", lambda: next(clock))
    assert len(interleave([lambda: 1.0], Rounds(50, budget=1.0, least=least))[0]) == least


def test_a_worker_replies_with_what_it_measured():
    with Worker("slow", (sys.executable, "-c", SLOW, "0.25")) as worker:
        assert worker.request('{"photo": 3}') == {"photo": 3}
        assert worker.measure() == dict.fromkeys(STEPS, 0.25)
        assert worker.request("end")["peak_bytes"] > 1 << 20


def test_the_error_of_a_worker_that_died_is_one_line():
    with Worker("gone", (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")) as worker:
        time.sleep(0.2)
        with pytest.raises(BackendError, match=r"'gone': its process ended by SIGKILL, as when memory runs out"):
            worker.request("{}")
    with (
        Worker("wrong", (sys.executable, "-c", "raise SystemExit(3)")) as worker,
        pytest.raises(BackendError, match="'wrong': its process ended with exit code 3"),
    ):
        worker.request("{}")


def test_no_worker_is_left_behind():
    worker = Worker("sleeper", (sys.executable, "-c", "import time; time.sleep(60)"))
    with pytest.raises(KeyError), worker:
        raise KeyError
    assert worker._process.poll() is not None


def test_the_error_of_a_bundle_that_cannot_be_loaded_is_the_worker_s(bundle):
    bundle.decoder_path.write_bytes(b"no graph")
    with pytest.raises(BackendError, match=r"'a': .*decoder.onnx has 8 bytes"):
        measure([Contestant("a", bundle, BackendOptions())], PHOTO, Rounds(3))


def test_core_ml_is_not_measured_off_a_mac(bundle, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr(sys, "platform", "linux")
    apple = replace(bundle, manifest=manifest(target="coreml"))
    document = measure(contestants({"apple": apple, "onnx": bundle}), PHOTO, Rounds(3, warm_up=0))
    assert [row["name"] for row in document["bundles"]] == ["onnx"]
    assert "Apple's systems only" in document["not_measured"]["apple"]
    with pytest.raises(UsageError, match="Apple's systems only"):
        measure(contestants({"apple": apple}), PHOTO, Rounds(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rounds(2), "2 repetitions are too few to measure a spread: use 3 or more"),
        (lambda: Rounds(warm_up=-1), "warm-up of -1 rounds is out of range"),
        (lambda: Rounds(budget=0), "a budget of 0 seconds"),
        (lambda: Rounds(budget=float("nan")), "a budget of nan seconds"),
        (lambda: contestants({}, (2, 2)), "threads 2, 2: give each number once"),
        (lambda: measure([], PHOTO, Rounds()), "no bundle is given"),
    ],
)
def test_invalid_settings_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_the_module_s_command_writes_the_same_document(bundle, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main([str(bundle.root), "--out", str(out), "--name", "mine", "--repetitions", "3", "--threads", "1"]) == 0
    document = json.loads(out.read_text())
    assert (document["format"], document["version"]) == (host.FORMAT, host.FORMAT_VERSION)
    assert [(row["name"], row["threads"]) for row in document["bundles"]] == [("mine", 1)]
    assert "measuring 2/5" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none'} does not exist")


def test_the_module_s_command_loads_neither_torch_nor_typer(bundle, tmp_path):
    code = (
        "import sys; from sam_edge_runtime.benchmark.__main__ import main; "
        f"code = main([{str(bundle.root)!r}, '--out', {str(tmp_path / 'out.json')!r}, '--repetitions', '3']); "
        "sys.exit(code or bool({'torch', 'typer', 'rich', 'sam_edge'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_spread_and_ratios():
    figures = spread([1.0, 2.0, 3.0, 4.0])
    assert figures["count"] == 4
    assert [figures[name] for name in ("mean", "min", "p50", "q25", "q75")] == [2.5, 1.0, 2.5, 1.75, 3.25]
    assert figures["std"] == pytest.approx(1.118034)
    assert figures["p99"] == pytest.approx(3.97)
    assert ratios([1.0, 9.0, 4.0], [2.0, 3.0, 4.0])["p50"] == 1.0


def test_the_machine_is_described():
    description = machine()
    assert description["cores"] >= 1
    assert description["processor"]
    assert description["memory_bytes"] is None or description["memory_bytes"] > 1 << 28
    assert set(description["instructions"]) <= {
        "avx2",
        "avx512f",
        "avx512_vnni",
        "avx_vnni",
        "amx_int8",
        "asimd",
        "asimddp",
        "i8mm",
        "sve",
    }


def test_a_bundle_without_pictures_gets_noise_at_the_size_of_a_photo(bundle):
    photo = benchmark_photo(bundle)
    assert (photo.shape, photo.dtype) == ((*SIZE, 3), np.uint8)
    assert photo.std() > 50
    assert min(SIZE) > SIDE
