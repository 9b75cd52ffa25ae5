"""Printing: tables and results go to standard output, progress and errors to standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import ConsoleOptions, RenderableType
    from rich.table import Table

WIDEST = 1000  # characters of a table
INTERRUPTED = 130  # exit code: 128 and the number of SIGINT


class SafeConsole(Console):
    """A console that prints no control codes from files.

    File names, manifests, tensors and engines' messages may hold codes that a terminal obeys: they could set its title
    or print a line of success. Every such character is shown as `\ufffd`. Square brackets stay as they are: nothing is
    parsed as markup, and styles are given as `Text`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render to segments of text, cleaned. Codes for colour and movement of our own are no text."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text == "\n" or segment.text.isprintable():
                yield segment
            else:
                yield Segment(
                    "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in segment.text), segment.style
                )


OUTPUT = SafeConsole()
ERRORS = SafeConsole(stderr=True)


def line(text: str, style: str = "") -> None:
    """Print one line of result without wrapping it."""
    OUTPUT.print(text, style=style, soft_wrap=True)


def whole(table: Table) -> None:
    """Print a table in its full width, even if the terminal is narrower, so that no number is cut off."""
    width = OUTPUT.measure(table, options=OUTPUT.options.update(max_width=WIDEST)).maximum
    SafeConsole(width=max(width, OUTPUT.width)).print(table)


def note(text: str, style: str = "yellow") -> None:
    """Print one line on standard error."""
    ERRORS.print(text, style=style, soft_wrap=True)


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Yield a function that announces a stage: a spinner while it runs, then a line with its seconds."""
    current = ""
    start = perf_counter()

    def finish() -> None:
        if current:
            ERRORS.print(f"  {current} ({perf_counter() - start:.1f} s)")

    with ERRORS.status("starting") as status:

        def announce(stage: str) -> None:
            nonlocal current, start
            finish()
            current, start = stage, perf_counter()
            status.update(escape(stage))

        yield announce
        finish()


@contextmanager
def progress_bar(first: str = "starting") -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function `show(what, done, total)` that updates a progress bar; a total of 0 means unknown.

    Args:
        first: text shown until the first call.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=ERRORS, transient=True) as bar:
        task = bar.add_task(first, total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield show
