"""A folder is replaced only if it holds nothing but a report of the same command."""

from __future__ import annotations

import pytest

from sam_edge.reporting.folders import (
    EVALUATION,
    VERIFICATION,
    check_benchmark_file,
    foreign_in_evaluation,
    foreign_in_verification,
    is_verification,
)
from sam_edge_runtime.errors import OutputError


def test_a_report_is_recognized_by_its_format(tmp_path):
    (tmp_path / "report.json").write_text(f'{{"format": "{EVALUATION}"}}')
    (tmp_path / "clicks.png").touch()
    assert foreign_in_evaluation(tmp_path) == ()
    assert foreign_in_verification(tmp_path) is None
    assert not is_verification(tmp_path)
    (tmp_path / "clicks.png").unlink()
    (tmp_path / "report.json").write_text(f'{{"format": "{VERIFICATION}"}}')
    assert foreign_in_verification(tmp_path) == ()
    assert foreign_in_evaluation(tmp_path) is None
    assert is_verification(tmp_path)


def test_files_that_no_report_has_are_foreign(tmp_path):
    (tmp_path / "report.json").write_text(f'{{"format": "{VERIFICATION}"}}')
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "monday.md").touch()
    (tmp_path / "clicks.png").touch()
    assert foreign_in_verification(tmp_path) == ("clicks.png", "notes/monday.md")


@pytest.mark.parametrize(
    "content", [None, b"", b"[1]", b'"sam-edge-evaluation"', b'{"format": 1}', b"\xff\xfe{", b"[" * 100_000]
)
def test_anything_else_is_no_report(tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    assert foreign_in_evaluation(tmp_path) is None
    assert foreign_in_verification(tmp_path) is None


OURS = [
    '{"format": "sam-edge-benchmark", "version": 1}',
    '[{"subject": {}, "device": {}, "tool": {}, "delegate": "cpu", "threads": 1, "reason": "x"}]',
    '<!doctype html>\n<html lang="en">\n<head>\n<title>sam-edge benchmark</title>',
]


@pytest.mark.parametrize("content", OURS)
def test_results_of_an_earlier_benchmark_may_be_replaced(content, tmp_path):
    (tmp_path / "out").write_text(content)
    check_benchmark_file(tmp_path / "out")
    check_benchmark_file(tmp_path / "none")


@pytest.mark.parametrize(
    "content", ["my notes", "[]", "{}", '[{"a": 1}]', "<!doctype html><title>my page</title>", "[" * 9999]
)
def test_other_files_are_not_replaced_by_a_benchmark(content, tmp_path):
    (tmp_path / "out").write_text(content)
    with pytest.raises(OutputError, match="holds no results of sam-edge benchmark"):
        check_benchmark_file(tmp_path / "out")
    with pytest.raises(OutputError, match="holds no results of sam-edge benchmark"):
        check_benchmark_file(tmp_path)
