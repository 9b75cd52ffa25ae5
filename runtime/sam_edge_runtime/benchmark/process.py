"""The parent's end of a worker: start it, give it a turn, let it go."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from sam_edge_runtime.errors import BackendError

WORKER = (sys.executable, "-m", "sam_edge_runtime.benchmark.worker")


class Worker:
    """A process that answers lines with JSON; gone at the end of a `with`, whatever happens.

    Args:
        name: what errors call it.
        command: what runs; the default measures a bundle.
    """

    def __init__(self, name: str, command: Sequence[str] = WORKER) -> None:
        self.name = name
        self._process = subprocess.Popen(  # noqa: S603 - ours, or the caller's
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, line: str) -> dict[str, Any]:
        """The answer to a line.

        Raises:
            BackendError: the worker refused, or ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        said = ""
        if stdin is not None and stdout is not None:
            try:
                stdin.write(line + "\n")
                stdin.flush()
                said = stdout.readline()
            except BrokenPipeError:
                pass
        if not said:
            raise BackendError(f"'{self.name}': its process ended {self._ending()}")
        answer: dict[str, Any] = json.loads(said)
        if "error" in answer:
            raise BackendError(f"'{self.name}': {answer['error']}")
        return answer

    def _ending(self) -> str:
        code = self._process.wait()
        if code == -9:
            return "by SIGKILL, as when memory runs out: measure fewer bundles at once, or a smaller one"
        return f"with code {code}; what it said is above"

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
