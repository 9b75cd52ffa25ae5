"""What commands print with: tables and results on standard output, progress and errors on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable

OUTPUT = Console(soft_wrap=False)
ERRORS = Console(stderr=True)


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """A function that announces stages: a spinner for the one that runs, a line with its seconds once it is done."""
    current = ""
    start = perf_counter()

    def finish() -> None:
        if current:
            ERRORS.print(f"  {current} [dim]({perf_counter() - start:.1f} s)[/dim]", highlight=False)

    with ERRORS.status("starting") as status:

        def announce(stage: str) -> None:
            nonlocal current, start
            finish()
            current, start = stage, perf_counter()
            status.update(stage)

        yield announce
        finish()
