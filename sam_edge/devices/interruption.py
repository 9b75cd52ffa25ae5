"""Cleaning up on Ctrl-C and SIGTERM.

Python raises an exception on SIGINT, so that `finally` runs, but SIGTERM and SIGHUP end the process at once, and a
second Ctrl-C interrupts the `finally` itself. Within `interruptible` the first of these signals raises an exception,
and later ones are ignored, because cleaning up has begun. Within `undisturbed` even the first one waits until the block
ends, so the block must end by itself. Python handles signals in the main thread: in other threads both do nothing.

The system may deliver a signal to any thread of a process (signal(7)), which happens with the second of two that arrive
together. The main thread, where Python's handlers run, then goes on waiting. `_passed_on` wakes it.
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
    """Hold signals back until the block ends, then raise the first. Keep the block short."""
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
    """Send each signal of this process to the main thread again, which interrupts its system call."""
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
    passed = set[int]()  # a signal that was passed on arrives here again
    while received := os.read(reading, 1):
        number = received[0]
        if number in _SIGNALS and number not in passed:
            passed.add(number)
            signal.pthread_kill(main.ident or 0, number)
