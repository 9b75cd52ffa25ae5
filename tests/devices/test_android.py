"""Measuring on a device: rows, reasons, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sam_edge.devices.android import AndroidOptions, benchmark_android
from sam_edge.devices.timing import Failure, GraphTiming, Spread
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.errors import BackendError, SamEdgeError, UsageError
from tests.devices.conftest import DF, elf

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SCRIPT = """
import sys
from pathlib import Path
from sam_edge.devices.android import AndroidOptions, benchmark_android
from sam_edge_runtime.bundle.bundle import Bundle
bundle, adb, tool = sys.argv[1:]
benchmark_android([Bundle.open(bundle)], AndroidOptions(adb=adb, litert_tool=Path(tool), delegates=("cpu",)))
"""


def table(rows) -> list[tuple[str, int | None, str, bool]]:
    """Graph, prompts, delegate, and whether the row has figures."""
    return [(row.subject.graph, row.subject.prompts, row.delegate, isinstance(row, GraphTiming)) for row in rows]


def refused(kind: type[SamEdgeError], bundles, options) -> str:
    with pytest.raises(kind) as caught:
        benchmark_android(bundles, options)
    line = str(caught.value)
    assert "\n" not in line
    return line


# Figures --------------------------------------------------------------------------------------------------------------


def test_a_tflite_bundle_gives_a_row_for_each_graph_capacity_and_delegate(device, options, tflite_bundle):
    device.set(signatures={"decoder.tflite": ["prompts_1", "prompts_8"]})
    shown = []
    rows = benchmark_android([tflite_bundle], options(), lambda *told: shown.append(told))
    assert table(rows) == [
        (graph, prompts, delegate, delegate != "nnapi")  # which takes nothing of the graph
        for graph, prompts in (("encoder", None), ("decoder", 1), ("decoder", 8))
        for delegate in ("cpu", "gpu", "nnapi")
    ]
    cpu, gpu, nnapi = rows[:3]
    assert cpu.device.described == "Acme Phone 9, Acme X1, Android 14, arm64-v8a"
    assert cpu.figures.steady == Spread(50, 105.784, 0.26, 105.416, 106.528, median=105.718, p95=106.281)
    assert cpu.figures.memory_peak_bytes == round(93.25 * MIB)  # of the second run
    assert cpu.figures.memory_overall_bytes == round(16.25 * MIB)
    assert cpu.figures.delegated == "in part (110 of 120 operations)"
    assert [each.kind for each in cpu.operators[2:]] == ["TRANSPOSE", "RESHAPE"]
    assert (cpu.subject.bytes, cpu.subject.bundle, cpu.tool.name) == (3000, "tflite", "benchmark_model")
    assert gpu.figures.init_ms == pytest.approx(1361.236)
    assert "took no operation" in nnapi.reason
    assert shown[0] == ("tflite encoder, cpu", 0, 9)
    assert shown[-1] == ("done", 9, 9)
    assert device.files == []
    assert "SECRET42" not in json.dumps([asdict(row) for row in rows])


def test_an_onnx_bundle_goes_through_the_perf_test_with_one_click(device, options, onnx_bundle):
    rows = benchmark_android([onnx_bundle], options(threads=(1, 4)))
    assert [(row.subject.graph, row.delegate, row.threads, isinstance(row, GraphTiming)) for row in rows] == [
        (graph, delegate, threads, delegate != "nnapi")
        for graph in ("encoder", "decoder")
        for delegate, threads in (("cpu", 1), ("cpu", 4), ("xnnpack", 1), ("xnnpack", 4), ("nnapi", 1))
    ]
    cpu, xnnpack, nnapi = rows[0], rows[2], rows[4]
    assert cpu.figures.steady.mean == pytest.approx(99.0)
    assert cpu.figures.steady.std == pytest.approx(2.549509757)
    assert cpu.figures.first_ms == 196.0
    assert [(each.kind, each.ms) for each in cpu.operators] == [("Conv", pytest.approx(0.4)), ("Relu", 0.1)]
    assert xnnpack.figures.delegated == "80% of the time"
    assert "NNAPI is not supported in this build" in nnapi.reason
    assert rows[5].subject.prompts == 1
    assert rows[0].subject.bytes == onnx_bundle.encoder_path.stat().st_size
    assert device.files == []


def test_the_compiled_models_tool_is_recognized(device, options, tflite_bundle):
    device.set(compiled=True)
    cpu, gpu, nnapi = benchmark_android([tflite_bundle], options())[:3]
    assert cpu.figures.steady == Spread(50, 10.5, 0.5, 9.75, 13.0)
    assert gpu.figures.delegated == "118 of 120 operations"
    assert "has no NNAPI" in nnapi.reason


def test_without_profiling_there_is_one_run_and_a_delegate_is_unproven(device, options, onnx_bundle):
    rows = benchmark_android([onnx_bundle], options(profile=False, delegates=("cpu", "xnnpack")))
    assert [(row.operators, row.remark) for row in rows[:2]] == [((), ""), ((), "nothing shows how much xnnpack ran")]
    runs = [command[-1] for command in device.commands if "./onnxruntime_perf_test" in command[-1]]
    assert len(runs) == 4
    assert not [run for run in runs if "/graph/profile" in run]


def test_an_old_device_works_too(device, options, tflite_bundle):
    device.set(old=True)
    rows = benchmark_android([tflite_bundle], options(delegates=("cpu",)))
    assert table(rows) == [("encoder", None, "cpu", True), ("decoder", 1, "cpu", True), ("decoder", 8, "cpu", True)]
    assert rows[0].operators[0].kind == "Convolution (NHWC, F32) GEMM"
    assert device.files == []


def test_only_the_measured_graph_takes_space(device, options, tflite_bundle):
    """Each graph fits, both do not."""
    device.set(capacity=4096 + 4000)
    rows = benchmark_android([tflite_bundle], options(delegates=("cpu",)))
    assert all(isinstance(row, GraphTiming) for row in rows)


def test_external_weights_are_pushed_too(device, options, onnx_bundle):
    (onnx_bundle.root / "encoder.onnx.data").write_bytes(b"w" * 5000)
    files = dict(onnx_bundle.manifest.files)
    files["encoder.onnx.data"] = replace(files["encoder.onnx"], bytes=5000)
    bundle = Bundle(onnx_bundle.root, replace(onnx_bundle.manifest, files=files))
    (row, *_) = benchmark_android([bundle], options(delegates=("cpu",), profile=False))
    assert row.subject.bytes == 5000 + bundle.encoder_path.stat().st_size
    pushed = [Path(command[-1]).name for command in device.commands if "push" in command]
    assert pushed[-3:] == ["encoder.onnx", "encoder.onnx.data", "decoder.onnx"]


# Failures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "words"), [("killed", "was killed on the device"), ("crash", "exit code 139")])
def test_a_tool_that_dies_costs_only_its_row(device, options, tflite_bundle, what, words):
    device.set(tool={"gpu": what})
    rows = benchmark_android([tflite_bundle], options(delegates=("gpu", "cpu")))
    assert [isinstance(row, GraphTiming) for row in rows] == [False, True] * 3
    assert words in rows[0].reason
    assert device.files == []


def test_a_profile_that_dies_leaves_the_times(device, options, tflite_bundle):
    device.set(tool={"cpu profiled": "killed"})
    (row, *_) = benchmark_android([tflite_bundle], options(delegates=("cpu",)))
    assert row.figures.steady.mean == 105.784
    assert row.operators == ()
    assert "no operators: benchmark_model was killed" in row.remark


def test_a_run_that_takes_too_long_is_stopped_on_the_device_too(device, options, onnx_bundle):
    device.set(tool={"xnnpack": "sleep"})
    rows = benchmark_android([onnx_bundle], options(delegates=("xnnpack", "cpu"), timeout=3.0, profile=False))
    assert "longer than 3 seconds" in rows[0].reason
    assert isinstance(rows[1], GraphTiming)
    assert_ended(int((device.home / "running").read_text()))
    scripts = [command[-1] for command in device.commands]
    stopped, *_ = (number for number, script in enumerate(scripts) if "pkill" in script)
    assert stopped < next(number for number, script in enumerate(scripts) if "-e cpu" in script)


def test_rows_measured_before_the_device_is_lost_are_kept(device, options, tflite_bundle):
    benchmark_android([tflite_bundle], options(delegates=("cpu", "gpu"), profile=False))
    log = [command[-1] for command in device.commands if command[0] == "-s"]
    second = next(number for number, script in enumerate(log, 1) if "--use_gpu" in script)
    for ending in ("gone_at", "cut_at"):
        device.set(**{"gone_at": 1 << 30, "cut_at": None, ending: second})
        (device.home / "gone").unlink(missing_ok=True)
        (device.home / "calls").write_text("0")
        rows = benchmark_android([tflite_bundle], options(delegates=("cpu", "gpu"), profile=False))
        assert [isinstance(row, GraphTiming) for row in rows] == [True, False, False, False, False, False]
        assert "is gone" in rows[1].reason
        assert "may be left" in rows[1].reason
        assert device.calls <= second + 2  # nothing more is tried but to clean up


@pytest.mark.parametrize("at", range(1, 9))
def test_a_device_lost_before_the_first_row_is_an_error(device, options, tflite_bundle, at):
    """Or a row's reason, once the tool is there."""
    device.set(gone_at=at)
    try:
        rows = benchmark_android([tflite_bundle], options())
    except BackendError as error:
        assert "gone" in str(error)  # noqa: PT017 - either of two
    else:
        assert all(isinstance(row, Failure) and "gone" in row.reason for row in rows)
        assert at > 5


def test_full_storage_is_reported_before_pushing(device, options, tflite_bundle):
    device.program("df", DF.format(total=1000, free=100))
    line = refused(BackendError, [tflite_bundle], options())
    assert "0 MB free" in line
    assert not [command for command in device.commands if "push" in command]


@pytest.mark.parametrize(("capacity", "graphs"), [(4096, ["tool"]), (4096 + 2500, ["encoder"])])
def test_storage_that_fills_up_is_reported(device, options, tflite_bundle, capacity, graphs):
    device.set(capacity=capacity if graphs != ["tool"] else 1000)
    if graphs == ["tool"]:
        assert "no space left" in refused(BackendError, [tflite_bundle], options())
    else:
        rows = benchmark_android([tflite_bundle], options(delegates=("cpu",)))
        assert [isinstance(row, GraphTiming) for row in rows] == [False, True, True]
        assert "no space left" in rows[0].reason
    assert device.files == []


def test_losing_authorization_is_a_rows_reason(device, options, tflite_bundle):
    device.set(unauthorized_at=9)
    rows = benchmark_android([tflite_bundle], options())
    assert all("unauthorized" in row.reason for row in rows if isinstance(row, Failure))
    assert isinstance(rows[-1], Failure)


def test_a_delegate_of_another_tool_is_a_rows_reason(device, options, onnx_bundle, tflite_bundle):
    rows = benchmark_android([onnx_bundle, tflite_bundle], options(delegates=("gpu", "xnnpack"), profile=False))
    reasons = [row.reason if isinstance(row, Failure) else "" for row in rows]
    assert "no provider 'gpu' for Android: choose from cpu, xnnpack, nnapi, qnn" in reasons[0]
    assert reasons[1] == ""
    assert "no delegate 'xnnpack': choose from cpu, gpu, nnapi" in reasons[5]
    assert device.files == []


# Refused before the device is used ------------------------------------------------------------------------------------


def test_bad_input_is_refused(device, options, tools, tflite_bundle, onnx_bundle):
    coreml = Bundle(tflite_bundle.root, replace(tflite_bundle.manifest, target="coreml"))
    assert "does not run on Android: choose from tflite, onnx" in refused(UsageError, [coreml], options())
    assert "no path of it was given" in refused(UsageError, [onnx_bundle], options(ort_tool=None))
    assert "there is no bundle" in refused(UsageError, [], options())
    assert "named twice" in refused(UsageError, [onnx_bundle, onnx_bundle], options())
    tools["litert_tool"].write_bytes(Path(sys.executable).resolve().read_bytes()[:100_000])
    assert "another system than Android" in refused(UsageError, [tflite_bundle], options())
    assert not (device.home / "log").exists()
    tools["litert_tool"].write_bytes(elf(machine=62))
    assert "the device runs arm64-v8a, armeabi-v7a" in refused(UsageError, [tflite_bundle], options())
    assert device.files == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"delegates": ("tpu",)}, "'tpu' is unknown: choose from cpu, gpu, nnapi, xnnpack, qnn"),
        ({"threads": ()}, "give 1 or more"),
        ({"threads": (0,)}, "give 1 or more"),
        ({"repetitions": 0}, "repetitions 0"),
        ({"warm_up": 0}, "warm_up 0"),
        ({"timeout": 0.0}, "timeout of 0"),
        ({"timeout": float("nan")}, "timeout of nan"),
    ],
)
def test_options_check_themselves(changes, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        AndroidOptions(**changes)


# Interruptions --------------------------------------------------------------------------------------------------------


def assert_ended(pid: int) -> None:
    """The program on the device is no longer there."""
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{pid}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} still runs")


def begin(device, tools, bundle, mark: str) -> subprocess.Popen[bytes]:
    """A process that measures, started and waited for until the device has written `mark`."""
    arguments = [str(bundle.root), str(device.adb), str(tools["litert_tool"])]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", "runtime"])},
        stderr=subprocess.DEVNULL,
    )
    marked = device.home / mark
    for _ in range(600):
        if marked.exists() and marked.read_text():
            break
        assert process.poll() is None
        time.sleep(0.1)
    assert "benchmark_model" in device.files
    return process


def test_a_signal_during_the_cleaning_waits_for_its_end(device, tools, tflite_bundle):
    device.set(slow_cleaning=2)
    process = begin(device, tools, tflite_bundle, "cleaning")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert device.files == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_run_leaves_nothing(device, tools, tflite_bundle, number, code):
    device.set(tool={"cpu": "sleep"})
    process, running = begin(device, tools, tflite_bundle, "running"), device.home / "running"
    process.send_signal(number)
    process.send_signal(signal.SIGINT)  # a second one must not break off the cleaning
    assert process.wait(timeout=60) in (code, -signal.SIGINT, 130)
    assert device.files == []
    assert_ended(int(running.read_text()))
