"""A loopback server that behaves as real ones do, and an empty cache."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from sam_edge.weights.catalogue import Release

PAYLOAD = np.random.default_rng(0).bytes(1_500_000)


@dataclass
class Server:
    """How the server responds to the next requests, and what it received and sent."""

    port: int = 0
    body: bytes = PAYLOAD
    ranges: bool = True  # honours Range
    announces_length: bool = True
    drop_after: int | None = None  # close the connection after so many bytes of a body
    status: int | None = None  # respond with this status and no body
    shift: int = 0  # respond to a range request with one that starts so many bytes later
    requested: list[str | None] = field(default_factory=list)  # the Range header of each request
    sent: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        state = self.state
        wanted = self.headers.get("Range")
        state.requested.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
        if state.status is not None or start >= len(state.body):
            self.send_response(state.status or 416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start += state.shift if start else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
        if state.announces_length:
            self.send_header("Content-Length", str(len(state.body) - start))
        self.end_headers()
        rest = state.body[start:]
        rest = rest if state.drop_after is None else rest[: state.drop_after]
        state.sent += len(rest)  # counted first: the client may have all bytes before this thread runs again
        try:
            self.wfile.write(rest)
        except OSError:  # the client closed the connection
            return

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()
    listener = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    state.port = listener.server_address[1]
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SAM_EDGE_CACHE", str(folder))
    return folder


@pytest.fixture
def release(server: Server) -> Release:
    return Release(
        variant="vit_x",
        family="none",
        url=server.url,
        file="weights.pth",
        size=len(PAYLOAD),
        sha256=hashlib.sha256(PAYLOAD).hexdigest(),
        licence="Apache-2.0",
        parameters=1,
        input_side=1024,
        source="this test",
        note="no weights at all",
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of huggingface_hub, without a network."""
    import huggingface_hub.constants as settings

    monkeypatch.setattr(settings, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(settings, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached_repository(hub: Path, repository: str) -> Path:
    """The folder of a revision as huggingface_hub lays it out; files in it count as downloaded."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = hub / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True)
    return folder
