"""Converters' output is kept off the terminal, and loggers are restored afterwards."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import pytest

from sam_edge_runtime.system.quiet import (
    captured_errors,
    captured_stderr,
    last_line_of,
    no_logging,
    no_progress_bars,
    quiet,
    root_cause,
)


def test_what_c_plus_plus_writes_is_captured_and_python_still_reaches_the_terminal(capfd):
    with captured_stderr() as last_line:
        os.write(2, b"first note\nthe last note\n\n")
        print("progress", file=sys.stderr)
        assert last_line() == "the last note"
    os.write(2, b"afterwards\n")
    captured = capfd.readouterr().err
    assert "note" not in captured
    assert captured.endswith("afterwards\n")


def test_no_logging_restores_a_root_logger_that_a_library_configured(caplog):
    root = logging.getLogger()
    before = root.handlers[:], root.level, root.manager.disable
    with no_logging():
        logging.getLogger("some.converter").warning("many words")
        root.addHandler(logging.NullHandler())
        root.setLevel(logging.DEBUG)
    assert (root.handlers, root.level, root.manager.disable) == before
    assert not caplog.records


def test_no_logging_lets_errors_through(caplog):
    with no_logging():
        logging.getLogger("some.converter").error("it failed")
    assert [record.message for record in caplog.records] == ["it failed"]


def test_only_expected_warnings_are_ignored():
    logger = logging.getLogger("some.converter")
    with quiet(("some.converter",), ((r"an old name", DeprecationWarning),)):
        assert logger.level == logging.ERROR
        warnings.warn("an old name is used", DeprecationWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)
    assert logger.level == logging.NOTSET


def test_the_last_error_of_a_logger_is_captured(caplog):
    logger = logging.getLogger("some.converter")
    with captured_errors("some.converter") as last_error:
        assert last_error() == ""
        logger.error("first")
        logger.error("ERROR - converting 'add_3':")
        assert last_error() == "converting 'add_3'"
    logger.error("heard again")
    assert [record.message for record in caplog.records] == ["heard again"]


def test_progress_bars_are_disabled_only_within(capsys):
    tqdm = pytest.importorskip("tqdm").tqdm
    with no_progress_bars():
        assert list(tqdm(range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    assert list(tqdm(range(3))) == [0, 1, 2]
    assert "3/3" in capsys.readouterr().err


def test_errors_become_one_line():
    chained = ValueError("see the stack trace")
    chained.__cause__ = KeyError("\n  the operation add_3 \n more")
    assert root_cause(ValueError("a\nb")) == "a"
    assert "add_3" in root_cause(chained)
    assert last_line_of(ValueError()) == "ValueError"
    assert last_line_of("") == ""
    assert len(last_line_of("x" * 1000)) == 300
