"""Context managers that keep converters' and quantizers' output off the terminal, and the line worth keeping of it.

Converters log, warn, draw progress bars, and write to standard error from C++. When one fails, the last line of all
that often names the operation, so `captured_stderr` and `captured_errors` keep it for the error message.
"""

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

_STDERR = 2  # the file descriptor that C++ libraries write to
_LONGEST = 300  # characters of a line that end up in an error message
# Expected warnings: a regular expression for the beginning of the text, and the category.
Expected = Sequence[tuple[str, type[Warning]]]


@contextmanager
def quiet(loggers: Sequence[str] = (), expected: Expected = ()) -> Iterator[None]:
    """Raise the level of the named loggers to ERROR, and ignore the expected warnings."""
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
def no_logging() -> Iterator[None]:
    """Drop log records up to WARNING, and restore the root logger: some libraries configure it for the process."""
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Disable tqdm's progress bars, which would break into ours."""
    from tqdm import tqdm  # noqa: PLC0415 - a dependency of the converters that use it

    original = tqdm.__init__

    def disabled(self: object, *arguments: object, **options: object) -> None:
        original(self, *arguments, **{**options, "disable": True})

    tqdm.__init__ = disabled
    try:
        yield
    finally:
        tqdm.__init__ = original


@contextmanager
def captured_errors(name: str) -> Iterator[Callable[[], str]]:
    """Keep a logger's errors off the terminal.

    Yields:
        A function that returns the last line of the last error, empty if there was none.
    """
    logger = logging.getLogger(name)
    before, last = (logger.propagate, logger.handlers, logger.disabled), _LastRecord()
    logger.propagate, logger.handlers = False, [last]
    try:
        yield lambda: last_line_of(last.message)
    finally:
        logger.propagate, logger.handlers, logger.disabled = before


class _LastRecord(logging.Handler):
    """Keeps the message of the last error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.message = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.message = record.getMessage().strip().removeprefix("ERROR - ").removesuffix(":")


@contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Keep off the terminal what C++ writes to file descriptor 2.

    Python's own `sys.stderr`, and with it a progress display, still reaches the terminal.

    Yields:
        A function that returns the last captured line, empty if there was none.
    """
    stderr = sys.stderr
    stderr.flush()
    terminal = os.dup(_STDERR)
    with tempfile.TemporaryFile() as file, os.fdopen(terminal, "w", buffering=1, errors="replace") as live:
        os.dup2(file.fileno(), _STDERR)
        redirected = _Redirected(live)
        if _descriptor_of(stderr) == _STDERR:
            sys.stderr = redirected

        def last_line() -> str:
            file.seek(0)
            return last_line_of(file.read().decode(errors="replace"))

        try:
            yield last_line
        finally:
            sys.stderr = stderr
            redirected.stream = stderr
            os.dup2(terminal, _STDERR)


class _Redirected(io.TextIOBase):
    """Writes to another stream, which may be exchanged: a module imported meanwhile may keep this one for its log."""

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


def _descriptor_of(stream: object) -> int | None:
    with suppress(AttributeError, OSError, ValueError, io.UnsupportedOperation):
        return int(stream.fileno())  # type: ignore[attr-defined]
    return None


def root_cause(error: BaseException) -> str:
    """First line of the first error in a chain: converters wrap it in others that only point to a stack trace."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = _lines(str(error))
    return lines[0] if lines else type(error).__name__


def last_line_of(error: BaseException | str) -> str:
    """Last line of an error or a text, at most 300 characters; an error without a text gives its class name."""
    lines = _lines(str(error))
    return lines[-1] if lines else type(error).__name__ if isinstance(error, BaseException) else ""


def _lines(text: str) -> list[str]:
    return [line.strip()[:_LONGEST] for line in text.splitlines() if line.strip()]
