"""Converters talk a lot, most of it past Python; only what they say last when they fail is worth reading."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

_STDERR = 2  # the file descriptor that libraries in C++ write to
_LONGEST = 300  # characters of a line that end up in an error
# Expected: a category of warning and the beginning of its text, as a regular expression.
Expected = Sequence[tuple[str, type[Warning]]]


@contextmanager
def quiet(loggers: Sequence[str], expected: Expected = ()) -> Iterator[None]:
    """Keep loggers' notes, and warnings that are known to mean nothing here, off the terminal."""
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message, category in expected:
                warnings.filterwarnings("ignore", message=message, category=category)
            yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def overheard(name: str) -> Iterator[Callable[[], str]]:
    """Keep a logger's errors off the terminal; a function gives the last one in a line."""
    logger = logging.getLogger(name)
    kept, records = (logger.propagate, logger.handlers, logger.disabled), _Records()
    logger.propagate, logger.handlers = False, [records]
    try:
        yield lambda: last_line_of(records.last)
    finally:
        logger.propagate, logger.handlers, logger.disabled = kept


class _Records(logging.Handler):
    """Keeps the last message."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage().strip().removeprefix("ERROR - ").removesuffix(":")


@contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Keep what C++ writes to standard error; a function gives the last line of it.

    Python's own `sys.stderr`, and with it a progress display, goes on writing where it did.
    """
    kept = sys.stderr
    kept.flush()
    terminal = os.dup(_STDERR)
    with tempfile.TemporaryFile() as file, os.fdopen(terminal, "w", buffering=1, errors="replace") as live:
        os.dup2(file.fileno(), _STDERR)
        standing_in = _StandIn(live)
        if _writes_to(kept) == _STDERR:
            sys.stderr = standing_in

        def last_line() -> str:
            file.seek(0)
            return last_line_of(file.read().decode(errors="replace"))

        try:
            yield last_line
        finally:
            sys.stderr = kept
            standing_in.stream = kept
            os.dup2(terminal, _STDERR)


class _StandIn(io.TextIOBase):
    """A stream that writes to another, which may change: what is imported meanwhile may keep it for its log."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return self.stream.fileno()

    def isatty(self) -> bool:
        return self.stream.isatty()


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep tqdm's bars away; they would break into ours."""
    from tqdm import tqdm  # noqa: PLC0415 - comes with the converters that use it

    kept = tqdm.__init__

    def disabled(self: object, *arguments: object, **options: object) -> None:
        kept(self, *arguments, **{**options, "disable": True})

    tqdm.__init__ = disabled
    try:
        yield
    finally:
        tqdm.__init__ = kept


def _writes_to(stream: object) -> int | None:
    with suppress(AttributeError, OSError, ValueError, io.UnsupportedOperation):
        return int(stream.fileno())  # type: ignore[attr-defined]
    return None


def root_cause(error: BaseException) -> str:
    """First line of the error at the root: converters wrap it in others that only point to a stack trace."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = _lines(str(error))
    return lines[0] if lines else type(error).__name__


def last_line_of(error: BaseException | str) -> str:
    """Last line of an error or a text."""
    lines = _lines(str(error))
    return lines[-1] if lines else type(error).__name__ if isinstance(error, BaseException) else ""


def _lines(text: str) -> list[str]:
    return [line.strip()[:_LONGEST] for line in text.splitlines() if line.strip()]
