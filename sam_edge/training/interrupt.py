"""Ctrl-C takes effect between two steps, so that the trainer can save a state from which a run resumes exactly.

Python raises KeyboardInterrupt anywhere, also inside an optimizer's step, where weights, moments and the number of the
step are inconsistent. So the first SIGINT only sets a flag, which the trainer checks after each step. A second Ctrl-C
interrupts at once.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

# Launchers of several processes forward the SIGINT that the terminal has sent to all of them: that is not a second one.
SAME_WITHIN = 2.0  # seconds


class Interrupt:
    """A context in which the first SIGINT sets a flag and a later one raises KeyboardInterrupt at once.

    Only the main thread receives signals; in another thread the context does nothing.
    """

    def __init__(self) -> None:
        self._first: float | None = None
        self._before: Any = None

    @property
    def wanted(self) -> bool:
        """Whether the run should stop."""
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
    """Ignore SIGINT in a worker process: Ctrl-C reaches it too, but the trainer still needs its photos."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
