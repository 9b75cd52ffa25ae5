"""The host benchmark: fresh processes, turns, and what its document holds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from sam_edge_runtime.backends import BackendOptions
from sam_edge_runtime.benchmark import host, turns
from sam_edge_runtime.benchmark.__main__ import main
from sam_edge_runtime.benchmark.host import Contestant, contestants, measure
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.benchmark.photo import SIZE, benchmark_photo
from sam_edge_runtime.benchmark.process import Worker
from sam_edge_runtime.benchmark.spread import ratios, spread
from sam_edge_runtime.benchmark.steps import STEPS
from sam_edge_runtime.benchmark.turns import LEAST_ROUNDS, Rounds, take_turns
from sam_edge_runtime.errors import BackendError, UsageError
from tests.runtime.standin import SIDE, manifest, write_onnx_bundle

PHOTO = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
# A worker whose every step takes as long as the second word of its command line says.
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
    told = []
    entries = contestants({"a": bundle}, (1, 2))
    document = measure(entries, PHOTO, Rounds(4, warm_up=1), lambda *said: told.append(said))
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
    assert ("measuring by turns", 1, 5) in told


def test_bundles_take_turns_in_another_order_each_round(monkeypatch):
    order = []
    workers = [
        SimpleNamespace(ask=lambda line, name=name: order.append(name) or {"seconds": dict.fromkeys(STEPS, 1.0)})
        for name in "abc"
    ]
    taken = take_turns(workers, Rounds(3, warm_up=1), lambda *said: None)
    assert "".join(order) == "abcbcacababc"
    assert [len(each) for each in taken] == [3, 3, 3]


def test_a_budget_ends_the_rounds_but_not_before_the_least(monkeypatch):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(turns.time, "monotonic", lambda: next(clock))
    worker = SimpleNamespace(ask=lambda line: {"seconds": dict.fromkeys(STEPS, 1.0)})
    assert len(take_turns([worker], Rounds(50, budget=1.0), lambda *said: None)[0]) == LEAST_ROUNDS


def test_what_a_worker_reports_is_what_is_kept():
    with Worker("slow", (sys.executable, "-c", SLOW, "0.25")) as worker:
        assert worker.ask('{"photo": 3}') == {"photo": 3}
        assert worker.ask("again")["seconds"] == dict.fromkeys(STEPS, 0.25)
        assert worker.ask("end")["peak_bytes"] > 1 << 20


def test_a_worker_that_dies_is_one_line():
    with Worker("gone", (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")) as worker:
        time.sleep(0.2)
        with pytest.raises(BackendError, match=r"'gone': its process ended by SIGKILL, as when memory runs out"):
            worker.ask("{}")
    with (
        Worker("wrong", (sys.executable, "-c", "raise SystemExit(3)")) as worker,
        pytest.raises(BackendError, match="'wrong': its process ended with code 3"),
    ):
        worker.ask("{}")


def test_no_worker_is_left_behind():
    worker = Worker("sleeper", (sys.executable, "-c", "import time; time.sleep(60)"))
    with pytest.raises(KeyError), worker:
        raise KeyError
    assert worker._process.poll() is not None


def test_a_bundle_that_cannot_be_loaded_is_the_worker_s_own_line(bundle):
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
    ("made", "said"),
    [
        (lambda: Rounds(2), "2 repetitions say nothing of the spread: 3 are the least"),
        (lambda: Rounds(warm_up=-1), "-1 rounds to warm up"),
        (lambda: Rounds(budget=0), "a budget of 0 seconds"),
        (lambda: Rounds(budget=float("nan")), "a budget of nan seconds"),
        (lambda: contestants({}, (2, 2)), "threads 2, 2: name each number only once"),
        (lambda: measure([], PHOTO, Rounds()), "no bundle is named"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(made, said):
    with pytest.raises(UsageError, match=said):
        made()


def test_the_runner_writes_the_same_document(bundle, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main([str(bundle.root), "--out", str(out), "--name", "mine", "--repetitions", "3", "--threads", "1"]) == 0
    document = json.loads(out.read_text())
    assert (document["format"], document["version"]) == (host.FORMAT, host.FORMAT_VERSION)
    assert [(row["name"], row["threads"]) for row in document["bundles"]] == [("mine", 1)]
    assert "measuring by turns 2/5" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none'} does not exist")


def test_the_runner_loads_neither_torch_nor_typer(bundle, tmp_path):
    code = (
        "import sys; from sam_edge_runtime.benchmark.__main__ import main; "
        f"code = main([{str(bundle.root)!r}, '--out', {str(tmp_path / 'out.json')!r}, '--repetitions', '3']); "
        "sys.exit(code or bool({'torch', 'typer', 'rich', 'sam_edge'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_spread_and_ratios():
    found = spread([1.0, 2.0, 3.0, 4.0])
    assert found["count"] == 4
    assert (found["mean"], found["min"], found["p50"], found["q25"], found["q75"]) == (2.5, 1.0, 2.5, 1.75, 3.25)
    assert found["std"] == pytest.approx(1.118034)
    assert found["p99"] == pytest.approx(3.97)
    assert ratios([1.0, 9.0, 4.0], [2.0, 3.0, 4.0])["p50"] == 1.0


def test_the_machine_is_named():
    found = machine()
    assert found["cores"] >= 1
    assert found["processor"]
    assert found["memory_bytes"] is None or found["memory_bytes"] > 1 << 28
    assert set(found["instructions"]) <= {
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
