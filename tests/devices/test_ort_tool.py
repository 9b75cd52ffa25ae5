"""ONNX Runtime's tool: command lines, its output in the forms of several years, and a real profile."""

from __future__ import annotations

import json
from dataclasses import astuple

import numpy as np
import onnxruntime
import pytest

from sam_edge.devices.ort_tool import Call, delegated, parse, parse_operators, reason
from sam_edge.devices.timing import Operator, Spread
from sam_edge_runtime.errors import BackendError
from tests.devices import texts


def about(value):
    return pytest.approx(value, rel=1e-6)


def test_the_oldest_form():
    figures = parse(texts.ORT_2018)
    assert (figures.init_ms, figures.first_ms, figures.memory_peak_bytes) == (None, None, None)
    count, mean, std, *rest = astuple(figures.steady)
    assert (count, mean, std) == (1000, 58.8053, None)
    assert rest == about([55.9777, 62.3472, 58.7108, 59.9845, 60.5676, 61.9517])


def test_the_form_without_percentiles():
    figures = parse(texts.ORT_2020)
    assert figures.init_ms == about(512)
    assert figures.steady == Spread(1000, 5.88053, None, None, None)


def test_the_newest_form_and_the_samples():
    figures = parse(texts.ORT_NEWEST, texts.ORT_SAMPLES)
    assert (figures.init_ms, figures.first_ms, figures.warm_up_ms) == (about(217.932), 196.0, None)
    assert figures.memory_peak_bytes == 271122432
    samples = np.array([95.0, 99.0, 100.0, 102.0])
    assert astuple(figures.steady) == about((4, samples.mean(), samples.std(), 95, 102, 99.5, 101.5, 101.6, 101.7))
    assert parse(texts.ORT_NEWEST).steady.mean == about(98.961997)  # the tool's own, where samples are missing


@pytest.mark.parametrize("text", ["", "NNAPI is not supported in this build\n", "terminate called\n"])
def test_output_without_timings_is_refused_with_its_reason(text):
    with pytest.raises(BackendError, match="no timings") as caught:
        parse(text)
    assert (text.strip() or "printed nothing") in str(caught.value)


def test_the_profile_is_summed_per_run():
    assert parse_operators(texts.ORT_PROFILE) == (
        Operator("Conv", 1, about(0.4), about(0.8), "CPUExecutionProvider"),
        Operator("Relu", 1, about(0.1), about(0.2), "CPUExecutionProvider"),
    )
    for text, words in (("[{", "not JSON"), ('{"a": 1}', "not a list"), ("[1]", "not a list")):
        with pytest.raises(BackendError, match=words):
            parse_operators(text)


def test_a_real_profile_is_read(onnx_bundle, tmp_path):
    """The decoder of the stand-in has six multiplications and one ReduceMean, unless the optimizer merges some."""
    settings = onnxruntime.SessionOptions()
    settings.enable_profiling = True
    settings.profile_file_prefix = str(tmp_path / "profile")
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(onnx_bundle.decoder_path, settings, providers=["CPUExecutionProvider"])
    sizes = {"B": 1, "N": 2}
    feeds = {
        spec.name: np.zeros([sizes.get(size, size) for size in spec.shape], np.float32)
        for spec in onnx_bundle.manifest.decoder_contract.inputs
    }
    for _ in range(3):
        session.run(None, feeds)
    with open(session.end_profiling()) as file:  # noqa: PTH123 - the path is the engine's
        text = file.read()
    operators = {each.kind: each for each in parse_operators(text)}
    nodes = [event["name"] for event in json.loads(text) if event["cat"] == "Node"]
    assert sum(each.count for each in operators.values()) == sum(n.endswith("_kernel_time") for n in nodes) / 3
    assert operators["Mul"].count == 5
    assert operators["ReduceMean"].count == 1
    assert operators["Mul"].unit == "CPUExecutionProvider"
    assert sum(each.share for each in operators.values()) == about(1)
    assert all(each.ms is not None and each.ms >= 0 for each in operators.values())


def test_a_provider_that_ran_nothing_is_refused():
    assert delegated(parse_operators(texts.ORT_PROFILE_XNNPACK), "xnnpack") == "80% of the time"
    assert delegated(parse_operators(texts.ORT_PROFILE), "cpu") == ""
    fused = (Operator("NnapiExecutionProvider_123_0", 1, 1.0, 0.25, ""), Operator("Mul", 1, 3.0, 0.75, "CPU"))
    assert delegated(fused, "nnapi") == "25% of the time"
    with pytest.raises(BackendError, match="NnapiExecutionProvider took no operation"):
        delegated(parse_operators(texts.ORT_PROFILE), "nnapi")


def test_command_lines():
    call = Call("/d/decoder.onnx", "qnn", 2, 50, {"B": 1, "N": 2})
    line = "-I -e qnn -m times -r 50 -x 2 -s -f B:1 -f N:2 -i backend_type|htp /d/decoder.onnx /d/samples"
    assert call.arguments("/d/samples") == line.split()
    assert Call("/d/e.onnx", "cpu", 4, 5).arguments("/d/s", "/d/p") == (
        ["-I", "-e", "cpu", "-m", "times", "-r", "5", "-x", "4", "-s", "-p", "/d/p", "/d/e.onnx", "/d/s"]
    )


def test_the_reason_is_the_line_with_the_error():
    assert reason("Setting intra_op_num_threads\nLoad model failed: bad\nmore\n") == "Load model failed: bad"
    assert reason("") == "it printed nothing"
