"""Arguments that a message would repeat."""

from __future__ import annotations

import pytest

from sam_edge.cli.app import BAD_INPUT, run


@pytest.mark.parametrize("argument", ["\x1b[2Jnone", "a\nb", "\udcff", "\u202e"])
def test_an_argument_with_codes_is_refused_in_one_printable_line(argument, capsys):
    assert run(["info", argument]) == BAD_INPUT
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.strip().isprintable()
    assert "holds characters that cannot be printed" in said


def test_the_name_of_a_file_may_hold_anything(tmp_path, capsys):
    folder = tmp_path / "a\x1b[2J\nb"
    folder.mkdir()
    assert run(["info", str(folder)]) == BAD_INPUT
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.strip().isprintable()
    assert "is no bundle" in said
