"""A server as a user starts it: a process of its own, on a free port of this machine."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "SAM_EDGE_TOKEN"},
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "exporters", "quant", "runtime")),
}
# The page is built by other tools; the command takes the one that a test made.
_COMMAND = (
    "import sys; from pathlib import Path; from sam_edge.serving import page; page.STATIC = Path(sys.argv[1]); {}"
    "from sam_edge.cli.app import run; sys.exit(run(sys.argv[2:]))"
)
# Two minutes are too long to be waited for.
SHORT_LEASES = 4.0  # seconds
_SHORT_LEASES = (
    "from functools import partial; from sam_edge.serving import annotation_session as each; "
    f"each.Leases = partial(each.Leases, {SHORT_LEASES}); each.HEARTBEAT_SECONDS = 1.0; "
)


class Running:
    """A server that answers, and requests to it that are written byte by byte."""

    def __init__(self, page: Path, *arguments: str | Path, short_leases: bool = False) -> None:
        code = _COMMAND.format(_SHORT_LEASES if short_leases else "")
        command = [sys.executable, "-c", code, str(page), "serve", *map(str, arguments), "--no-browser"]
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise RuntimeError(self.process.communicate()[1])
        parts = urlsplit(self.address)
        self.port = parts.port
        self.token = parse_qs(parts.query).get("token", [""])[0]

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; the token comes along unless `headers` has an Authorization."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        if isinstance(body, dict):
            body, sent["Content-Type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        status, _, content = self.request("POST", path, body)
        assert status in (200, 201), content
        return json.loads(content)

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, 2)
        try:
            return self.process.wait(30)
        finally:
            self.close()

    def close(self) -> None:
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()


@contextlib.contextmanager
def running(page: Path, *arguments: str | Path, short_leases: bool = False) -> Iterator[Running]:
    server = Running(page, *arguments, short_leases=short_leases)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server.close()
