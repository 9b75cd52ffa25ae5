"""Ctrl-C between two steps: what was learned is saved, and a resumed run goes on as if nothing had happened.

Python raises KeyboardInterrupt anywhere, in the middle of an optimizer's step too, where weights, moments and the
step's number do not belong together. So the first one is only noted, and the trainer asks after each step. Whoever
cannot wait that long presses again.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

# Launchers of several processes pass on what the terminal has sent to all of them already: that is still the first.
SAME_WITHIN = 2.0  # seconds


class Interrupt:
    """Entered, it notes SIGINT; another one, later, is raised as KeyboardInterrupt at once.

    In a thread other than the main one signals cannot be had, and it notes nothing.
    """

    def __init__(self) -> None:
        self._first: float | None = None
        self._before: Any = None

    @property
    def wanted(self) -> bool:
        """Whether somebody asked to stop."""
        return self._first is not None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
        elif now - self._first > SAME_WITHIN:
            raise KeyboardInterrupt


def leave_to_parent(_worker: int) -> None:
    """In a process that reads photos: Ctrl-C reaches it too, and the trainer still needs what it reads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
