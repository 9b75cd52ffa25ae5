"""The one line of an error that a command ends with."""

from __future__ import annotations

import pytest

from sam_edge.cli.app import run


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that ends with exit code 2, and return its error."""
    assert run([str(each) for each in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]
