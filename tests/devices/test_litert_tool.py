"""LiteRT's tool: command lines, and its output in the forms of several years; `texts.py` names their sources."""

from __future__ import annotations

import pytest

from sam_edge.devices.litert_tool import (
    Call,
    Dialect,
    check_delegate,
    dialect_of,
    parse,
    parse_operators,
    parse_peak,
    reason,
)
from sam_edge.devices.timing import Operator, Spread
from sam_edge_runtime.errors import BackendError
from tests.devices import texts

INTERPRETER, COMPILED = Dialect.INTERPRETER, Dialect.COMPILED
MIB = 1 << 20


def about(value):
    return pytest.approx(value, rel=1e-6)


def test_the_oldest_form():
    figures = parse(texts.LITERT_2018, "cpu", INTERPRETER)
    assert (figures.init_ms, figures.first_ms, figures.warm_up_ms) == (about(38.467), None, about(83.235))
    assert figures.steady == Spread(50, 79.732, 1.929, 77.385, 88.213)
    readme = texts.LITERT_2018.replace("no stats", "Inference").replace("79732\n", "79760.9\n")
    assert parse(readme, "cpu", INTERPRETER).init_ms == about(38.467)


def test_the_form_with_e_notation_and_without_percentiles():
    figures = parse(texts.LITERT_2020, "cpu", INTERPRETER)
    assert (figures.init_ms, figures.first_ms, figures.warm_up_ms) == (about(17.187), about(3512.391), about(3512.39))
    assert figures.steady == Spread(50, 2950.34, 109.798, 2727.568, 3189.954)
    assert figures.memory_overall_bytes == about(46.0859 * MIB)
    assert figures.memory_peak_bytes is None  # "Peak" in this form is the growth
    assert figures.delegated == ""


def test_the_form_with_percentiles_and_the_delegates_part():
    figures = parse(texts.LITERT_2025_CPU, "cpu", INTERPRETER)
    assert figures.steady == Spread(50, 105.784, 0.26, 105.416, 106.528, median=105.718, p95=106.281)
    assert (figures.init_ms, figures.first_ms, figures.warm_up_ms) == (about(87.639), about(106.436), about(106.065))
    assert figures.memory_overall_bytes == round(16.25 * MIB)
    assert figures.delegated == "in part (110 of 120 operations)"
    assert parse(texts.LITERT_2025_GPU, "gpu", INTERPRETER).delegated == "in part (100 of 120 operations)"
    whole = texts.LITERT_2025_GPU.replace("partially executed by the delegate w/ 1", "completely executed by the")
    assert parse(whole, "gpu", INTERPRETER).delegated.startswith("whole")


def test_the_compiled_models_form():
    figures = parse(texts.COMPILED_CPU, "cpu", COMPILED)
    assert figures.steady == Spread(50, 10.5, 0.5, 9.75, 13.0)
    assert (figures.init_ms, figures.first_ms, figures.warm_up_ms) == (41.5, 12.25, 11.0)
    assert figures.memory_overall_bytes == round(24.5 * MIB)
    assert figures.memory_peak_bytes is None
    gpu = parse(texts.COMPILED_GPU, "gpu", COMPILED)
    assert gpu.steady == Spread(50, 10.5005, 0.501, 9.75, 13.0, median=10.45, p95=12.1)
    assert gpu.delegated == "118 of 120 operations"


def test_one_run_or_equal_runs_have_no_spread():
    text = "count=1 curr=5000\n\ncount=3 curr=2000(all same)\n\n" + texts.LITERT_2020.splitlines()[-3]
    text += "\nInference timings in us: Init: 1, First inference: 5000, Warmup (avg): 5000, Inference (avg): 2000\n"
    assert parse(text, "cpu", INTERPRETER).steady == Spread(3, 2.0, 0.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("text", "delegate", "words"),
    [
        (texts.LITERT_REFUSED, "nnapi", "took no operation of the graph"),
        (texts.LITERT_2025_CPU, "gpu", "did not report that the GPU delegate was applied"),
        ("WARN: GPU acceleration is unsupported on this platform.\n" + texts.LITERT_2020, "gpu", "GPU acceleration is"),
        ("WARN: Unconsumed cmdline flags: --use_nnapi=true\n" + texts.LITERT_2020, "nnapi", "--use_nnapi=true"),
        ("WARN: Unconsumed cmdline flags: --signature_to_run_for=a\n" + texts.LITERT_2020, "cpu", "does not know"),
        ("", "cpu", "it printed nothing"),
    ],
)
def test_times_of_another_delegate_are_refused(text, delegate, words):
    """The tool silently falls back to the CPU."""
    with pytest.raises(BackendError) as caught:
        parse(text, delegate, INTERPRETER)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_flag_that_does_not_matter_is_ignored():
    text = "WARN: Unconsumed cmdline flags: --max_secs=600\n" + texts.LITERT_2020
    assert parse(text, "cpu", INTERPRETER).steady.count == 50


def test_operators_inside_the_delegate_replace_its_row():
    operators = parse_operators(texts.LITERT_2025_CPU + texts.LITERT_PROFILE)
    assert operators == (
        Operator("Convolution (NHWC, F32) GEMM", 40, 60.0, about(60 / 90), "delegate"),
        Operator("Fully Connected (F32)", 12, 20.0, about(20 / 90), "delegate"),
        Operator("TRANSPOSE", 1, 7.5, about(7.5 / 90), "CPU kernels"),
        Operator("RESHAPE", 1, 2.5, about(2.5 / 90), "CPU kernels"),
    )


@pytest.mark.parametrize(
    "changed",
    [
        texts.LITERT_PROFILE.replace("RESHAPE  ", "TfLiteGpuDelegateV2  "),  # whose inside is it?
        texts.LITERT_PROFILE.replace("    60.000  75", "     6.000  75"),  # explains 26 of 90 ms
    ],
)
def test_a_delegates_row_stays_if_its_operators_are_unknown(changed):
    operators = parse_operators(changed)
    assert operators[0] == Operator("TfLiteXNNPackDelegate", 2, 90.0, about(0.9), "delegate")
    assert [each.ms for each in operators] == [90.0, 7.5, 2.5]


def test_operators_in_columns_with_tabs():
    operators = parse_operators(texts.LITERT_PROFILE_TABS)
    assert [(each.kind, each.count, each.ms) for each in operators] == [
        ("CONV_2D", 15, 2651.853),
        ("DEPTHWISE_CONV_2D", 13, 296.919),
        ("SQUEEZE", 1, 0.0),
    ]
    assert sum(each.share for each in operators) == about(1)
    assert operators[0].share == about(2651.853 / 2948.772)
    assert parse_operators(texts.LITERT_2025_CPU) == ()


def test_unknown_columns_are_refused():
    with pytest.raises(BackendError, match="other columns"):
        parse_operators(texts.LITERT_PROFILE_TABS.replace("[avg ms]", "[median ms]"))


def test_the_peak_of_memory():
    assert parse_peak(texts.LITERT_PEAK) == round(93.25 * MIB)
    assert parse_peak("INFO: [benchmark_litert_model.h:132] Peak memory:          427.5 MB\n") == round(427.5 * MIB)
    assert parse_peak(texts.COMPILED_CPU) is None


def test_command_lines():
    call = Call("/d/g.tflite", "gpu", 4, 50, 2, "prompts_8")
    plain, profiled = (call.arguments(INTERPRETER, profile=profile) for profile in (False, True))
    assert plain == [
        "--graph=/d/g.tflite",
        "--num_threads=4",
        "--num_runs=50",
        "--warmup_runs=2",
        "--min_secs=0",
        "--warmup_min_secs=0",
        "--max_secs=600",
        "--signature_to_run_for=prompts_8",
        "--use_gpu=true",
    ]
    assert profiled == [*plain, "--enable_op_profiling=true", "--report_peak_memory_footprint=true"]
    assert "--use_profiler=true" in call.arguments(COMPILED, profile=True)
    cpu = Call("g", "cpu", 1, 1, 1)
    assert "--use_xnnpack=true" in cpu.arguments(INTERPRETER, profile=False)
    assert not [flag for flag in cpu.arguments(COMPILED, profile=False) if flag.startswith("--use")]
    assert "--use_nnapi=true" in Call("g", "nnapi", 1, 1, 1).arguments(INTERPRETER, profile=False)


def test_the_two_programs_are_distinguished():
    assert dialect_of(texts.INTERPRETER_USAGE) is INTERPRETER
    assert dialect_of(texts.COMPILED_USAGE) is COMPILED
    with pytest.raises(BackendError, match="not executable: 64-bit ELF"):
        dialect_of("/system/bin/sh: ./benchmark_model: not executable: 64-bit ELF file\n")
    check_delegate("nnapi", INTERPRETER)
    with pytest.raises(BackendError, match="has no NNAPI"):
        check_delegate("nnapi", COMPILED)


def test_the_reason_is_the_tools_error_message():
    text = "INFO: STARTING!\nERROR: TfLiteGpuDelegate Init: no OpenCL, error -1\nERROR: Failed to apply GPU delegate.\n"
    assert reason(text + "ERROR: Benchmarking failed.\n") == (
        "TfLiteGpuDelegate Init: no OpenCL, error -1; Failed to apply GPU delegate."
    )
    assert reason("\n\n") == "it printed nothing"
