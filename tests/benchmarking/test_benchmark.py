"""`sam-edge benchmark`: names, tables, the page, and bad options."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sam_edge.benchmarking.page import page
from sam_edge.benchmarking.tables import latency_table
from sam_edge.cli.app import run
from sam_edge.reporting.names import short_names
from sam_edge_runtime.errors import UsageError
from tests.runtime.standin import write_onnx_bundle

FAST = ["-n", "3", "--warm-up", "0", "--threads", "1"]


@pytest.fixture
def bundles(tmp_path):
    folders = [tmp_path / "here" / "fp32", tmp_path / "here" / "int8"]
    for folder in folders:
        folder.mkdir(parents=True)
        write_onnx_bundle(folder)
    return [str(folder) for folder in folders]


def test_two_bundles_in_tables_a_page_and_json(bundles, tmp_path, capsys):
    out, html = tmp_path / "out.json", tmp_path / "out.html"
    assert run(["benchmark", *bundles, *FAST, "--json", str(out), "--html", str(html)]) == 0
    said = capsys.readouterr().out
    document = json.loads(out.read_text())
    assert [row["name"] for row in document["bundles"]] == ["fp32", "int8"]
    assert document["sam_edge"]
    for title in ("latency, ms: p50 (p90, p99)", "start and memory of a fresh process", "time relative to fp32"):
        assert title in said
        assert title in html.read_text()
    median = document["bundles"][1]["ratio"]["click"]["p50"]
    assert f"{median:.2f} (" in said
    assert html.read_text().count("data:image/png;base64,") == 2
    assert document["machine"]["processor"] in html.read_text()
    assert not re.search(r"(?:src|href)=['\"]?http", html.read_text())  # one file, nothing from elsewhere


def test_compare_prints_ratios_alone(bundles, capsys):
    assert run(["benchmark", *bundles, *FAST, "--compare"]) == 0
    said = capsys.readouterr().out
    assert "time relative to fp32" in said
    assert "p90" not in said


def test_a_bundle_is_compared_with_itself_on_other_threads(bundles, capsys):
    assert run(["benchmark", bundles[0], "-n", "3", "--warm-up", "0", "--threads", "1,2", "--compare"]) == 0
    assert "fp32, 2 threads" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--compare"], "--compare needs two or more bundles"),
        (["--device", "toaster"], "--device 'toaster' is unknown: choose from host, android[:SERIAL], apple, ssh:"),
        (["--device", "ssh:"], "--device 'ssh:' is unknown"),
        (["--device", "host:3"], "--device 'host:3' is unknown"),
        (["--threads", "two"], "--threads 'two' is not a number"),
        (["--threads", "0"], "threads 0 is not an integer from 1 to 1024"),
        (["--budget", "long"], "--budget 'long' is not a time"),
        (["-n", "1"], "1 repetitions are too few to measure a spread"),
        (["--photo", "none.jpg"], "none.jpg"),
        (["--device", "android", "--html", "x.html"], "--html, --compare and --photo are for host and ssh"),
        (["--device", "android"], "onnxruntime_perf_test for Android, and no path of it was given"),
        (["--provider", "toaster"], "provider 'toaster' is not in this onnxruntime"),
    ],
)
def test_bad_options_are_refused_in_one_line(bundles, capsys, options, said):
    assert run(["benchmark", bundles[0], *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]
    assert not [line for line in lines if line.startswith("Traceback")]


def test_names_are_as_short_as_possible():
    assert short_names([Path("a/onnx"), Path("a/tflite")]) == ["onnx", "tflite"]
    assert short_names([Path("/a/onnx"), Path("/b/onnx"), Path("/b/tflite")]) == ["a/onnx", "b/onnx", "b/tflite"]
    with pytest.raises(UsageError, match="named twice"):
        short_names([Path("a"), Path("b/../a")])


def test_a_page_of_one_bundle_has_no_ratios_and_escapes_names(bundles, tmp_path):
    out = tmp_path / "out.json"
    assert run(["benchmark", bundles[0], *FAST, "--json", str(out)]) == 0
    document = json.loads(out.read_text())
    document["bundles"][0]["name"] = "<b>"
    text = page(document)
    assert "time relative to" not in text
    assert "<b>" not in text.split("</style>")[1]
    assert "&lt;b&gt;" in text
    assert latency_table(document).row_count == 1
