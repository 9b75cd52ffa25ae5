"""The parent's end of a worker process: start it, send it requests, stop it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from sam_edge_runtime.errors import BackendError

from .worker import MEASURE

WORKER = (sys.executable, "-m", "sam_edge_runtime.benchmark.worker")
_SIGKILL = -9  # as `Popen.wait` returns it


class Worker:
    """A process that replies to each line with a line of JSON. It is killed when the `with` block ends.

    Args:
        name: its name in errors.
        command: the program and its arguments; the default measures a bundle.
    """

    def __init__(self, name: str, command: Sequence[str] = WORKER) -> None:
        self.name = name
        self._process = subprocess.Popen(  # noqa: S603 - ours, or the caller's
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def request(self, line: str) -> dict[str, Any]:
        """Send a line and return the reply.

        Raises:
            BackendError: the worker replied with an error, or its process ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        text = ""
        if stdin is not None and stdout is not None:
            try:
                stdin.write(line + "\n")
                stdin.flush()
                text = stdout.readline()
            except BrokenPipeError:
                pass
        if not text:
            raise BackendError(f"'{self.name}': its process ended {self._ending()}")
        reply: dict[str, Any] = json.loads(text)
        if "error" in reply:
            raise BackendError(f"'{self.name}': {reply['error']}")
        return reply

    def measure(self) -> dict[str, float]:
        """Measure once; seconds by step.

        Raises:
            BackendError: as `request`.
        """
        seconds: dict[str, float] = self.request(MEASURE)["seconds"]
        return seconds

    def _ending(self) -> str:
        code = self._process.wait()
        if code == _SIGKILL:
            return "by SIGKILL, as when memory runs out: measure fewer bundles at once, or a smaller one"
        return f"with exit code {code}; its output is above"

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
