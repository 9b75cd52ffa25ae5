"""A folder is replaced only if it holds a report of the same command."""

from __future__ import annotations

import pytest

from sam_edge.reporting.folders import EVALUATION, VERIFICATION, is_evaluation, is_verification


def test_a_report_is_recognized_by_its_format(tmp_path):
    (tmp_path / "report.json").write_text(f'{{"format": "{EVALUATION}"}}')
    assert is_evaluation(tmp_path)
    assert not is_verification(tmp_path)
    (tmp_path / "report.json").write_text(f'{{"format": "{VERIFICATION}"}}')
    assert is_verification(tmp_path)
    assert not is_evaluation(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"[1]", b'"sam-edge-evaluation"', b'{"format": 1}', b"\xff\xfe{"])
def test_anything_else_is_no_report(tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    assert not is_evaluation(tmp_path)
    assert not is_verification(tmp_path)
