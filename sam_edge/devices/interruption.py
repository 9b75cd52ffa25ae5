"""Ctrl-C and SIGTERM while something must be put back in order.

Python turns SIGINT into an exception, so that `finally` runs, but ends at once on SIGTERM and SIGHUP, and a second
Ctrl-C breaks off the `finally` itself. `interruptible` makes the first of them an exception and lets the others pass,
as what follows is cleaning up; inside `undisturbed` even the first waits until the block is done. Cleaning up must
therefore end by itself. Signals belong to the main thread: elsewhere both do nothing.

A signal sent to a process may be taken by any of its threads (signal(7)), as happens with the second of two that come
together; then the main thread, where Python's handlers run, goes on waiting. `_passed_on` wakes it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on SIGINT and `SystemExit(128 + number)` on SIGTERM and SIGHUP, once."""
    seen: list[int] = []

    def once(number: int, _: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    with _handled(once), _passed_on():
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep signals until the block is done, then act on the first; keep the block short."""
    kept: list[int] = []

    def keep(number: int, _: FrameType | None) -> None:
        kept.append(number)

    with _handled(keep):
        yield
    if kept:
        signal.raise_signal(kept[0])


@contextmanager
def _handled(handler: _Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


@contextmanager
def _passed_on() -> Iterator[None]:
    """Send the main thread each signal that this process gets, once more: what it waits for is then broken off."""
    main = threading.current_thread()
    if main is not threading.main_thread() or not hasattr(signal, "pthread_kill"):
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    thread = threading.Thread(target=_pass_on, args=(reading, main), daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        thread.join()
        os.close(reading)


def _pass_on(reading: int, main: threading.Thread) -> None:
    passed = set[int]()  # as one that is passed on is read here again
    while told := os.read(reading, 1):
        number = told[0]
        if number in _SIGNALS and number not in passed:
            passed.add(number)
            signal.pthread_kill(main.ident or 0, number)
