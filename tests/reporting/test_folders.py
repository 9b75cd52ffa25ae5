"""A folder is replaced only if it holds nothing but a report of the same command."""

from __future__ import annotations

import pytest

from sam_edge.reporting.folders import (
    EVALUATION,
    VERIFICATION,
    foreign_in_evaluation,
    foreign_in_verification,
    is_verification,
)


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
