"""The process that answers: an address of its own, a line that says it, a browser that opens it."""

from __future__ import annotations

import errno
import socket
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread

import uvicorn

from sam_edge_runtime.backends import BackendOptions, load_backend
from sam_edge_runtime.errors import UsageError

from .access import Access, is_loopback, new_token
from .annotation_session import AnnotationSession
from .application import Content, create_application
from .hosted_bundle import SERVER, choose_engine, host_bundles
from .job import PORT, ServeJob
from .page import Page

_TRIED_PORTS = 20  # from 8000 on, before any free one is taken
_MOST_CONNECTIONS = 256
_SECONDS_TO_END = 2  # for answers that are on their way when the server stops
_MOST_PENDING = 128


@dataclass(frozen=True)
class Served:
    """A server that answers.

    Attributes:
        address: to open, with the token.
        bundles: titles of the bundles.
        notes: lines on photos that were left out and on who can reach the server.
    """

    address: str
    bundles: tuple[str, ...]
    notes: tuple[str, ...]


class Server(uvicorn.Server):
    """A server that says when it answers."""

    when_started: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self.started:
            self.when_started()


@dataclass(frozen=True)
class Ready:
    """A server that listens.

    Attributes:
        server: to run.
        listening: its socket.
        served: what to tell people.
        session: of annotation, or None.
    """

    server: Server
    listening: socket.socket
    served: Served
    session: AnnotationSession | None


def serve(job: ServeJob, page: Page, announce: Callable[[Served], None], *, browser: bool) -> None:
    """Answer until the process is interrupted.

    Args:
        job: what to serve.
        page: the built page.
        announce: called when the server answers.
        browser: whether to open the address in a browser.

    Raises:
        SamEdgeError: a bundle, a folder, the host or the port cannot be used; nothing was answered.
    """
    with ready(job, page) as prepared:

        def started() -> None:
            announce(prepared.served)
            if browser:
                Thread(target=_open, args=(prepared.served.address,), daemon=True).start()

        prepared.server.when_started = started
        with suppress(KeyboardInterrupt):  # the usual end
            prepared.server.run(sockets=[prepared.listening])


@contextmanager
def hosting(job: ServeJob, page: Page) -> Iterator[Ready]:
    """A server that answers from a thread of its own, until the block ends.

    Raises:
        SamEdgeError: see `serve`.
    """
    with ready(job, page) as prepared:
        started = Event()
        prepared.server.when_started = started.set
        thread = Thread(target=prepared.server.run, kwargs={"sockets": [prepared.listening]})
        thread.start()
        try:
            while thread.is_alive() and not started.wait(0.1):
                pass
            if not started.is_set():
                raise UsageError(f"the server at {prepared.served.address} did not start: choose another --port")
            yield prepared
        finally:
            prepared.server.should_exit = True
            thread.join()


@contextmanager
def ready(job: ServeJob, page: Page) -> Iterator[Ready]:
    """A server that listens and does not answer yet; what it holds open is closed when the block ends.

    Raises:
        SamEdgeError: see `serve`.
    """
    token = new_token() if job.needs_token else None
    access = Access.of(job.host, token)
    bundles = host_bundles(job.bundles)
    engine = choose_engine(bundles, job.engine)
    options = BackendOptions(threads=job.threads)
    if engine == SERVER:
        load_backend(bundles[0].bundle, options)  # a missing engine is refused now, not with the first photo
    listening = listen(job.host, job.port)
    with listening:
        session = None if job.annotation is None else AnnotationSession.open(job.annotation)
        try:
            application = create_application(Content(page, bundles, engine, options, session), access)
            address = address_of(job.host, listening.getsockname()[1], token)
            served = Served(address, tuple(each.title for each in bundles), _notes(job, session))
            config = uvicorn.Config(
                application,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=_SECONDS_TO_END,
                ws="none",
            )
            yield Ready(Server(config), listening, served, session)
        finally:
            if session is not None:
                session.folder.close()


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens.

    Args:
        host: name or address.
        port: None: 8000, or the next that is free.

    Raises:
        UsageError: the host is not this machine's, or the port is taken.
    """
    if port is not None:
        return _bound(host, port)
    for each in range(PORT, PORT + _TRIED_PORTS):
        with suppress(_PortTakenError):
            return _bound(host, each)
    return _bound(host, 0)


class _PortTakenError(UsageError):
    """The port is in use."""


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--host {host} is no address of this machine ({reason}): use 127.0.0.1") from error
    try:
        # On Windows this option would let two servers share a port.
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
        bound.listen(_MOST_PENDING)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise _PortTakenError(f"--port {port} is in use: choose another, or leave it out") from error
        if error.errno == errno.EACCES:
            raise _PortTakenError(f"--port {port} needs more rights than you have: use 1024 or more") from error
        raise UsageError(f"--host {host} is no address of this machine ({error.strerror}): use 127.0.0.1") from error
    return bound


def address_of(host: str, port: int, token: str | None) -> str:
    """The address to open: of every address that is listened on, this machine's own."""
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)  # noqa: S104 - compared only
    name = f"[{shown}]" if ":" in shown else shown
    return f"http://{name}:{port}/{f'?token={token}' if token is not None else ''}"


def _notes(job: ServeJob, session: AnnotationSession | None) -> tuple[str, ...]:
    notes = []
    if not is_loopback(job.host):
        notes.append(
            "other machines can reach this server, and nothing is encrypted: give the address only to those who may "
            "see the photos"
        )
    if session is not None and session.queue.left_out:
        first, *others = session.queue.left_out
        more = f" and {len(others)} more" if others else ""
        notes.append(f"left out: {first.name}{more}, links that lead out of the folder of photos")
    return tuple(notes)


def _open(address: str) -> None:
    with suppress(webbrowser.Error, OSError):  # the address was printed
        webbrowser.open(address)
