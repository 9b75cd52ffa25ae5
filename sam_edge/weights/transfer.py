"""One file over HTTP that goes on where an earlier attempt ended.

Bytes are appended to a `.part` file. When there already are some, the server is asked for the rest (a range request,
RFC 9110 section 14); a server that sends everything anyway is taken at its word, and the file starts over. Nothing here
says whether the bytes are right: a file that changed between two attempts shows in the sha256, which `download` checks.
There is no lock either: two processes that fetch the same file at once spoil it, which the sha256 shows as well.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from sam_edge_runtime.errors import OutputError

from .cache import CACHE_VARIABLE
from .catalogue import Release

PIECE = 1 << 18  # bytes; what a broken connection can lose
CONNECT_SECONDS, SILENCE_SECONDS = 15, 60


class TransferError(Exception):
    """The network or the server did not give the file; the message says why, in a few words."""


def fetch(release: Release, part: Path, *, progress: bool) -> None:
    """Bring `part` to the full size of `release`, fetching only what it lacks.

    Args:
        release: the file to fetch.
        part: the file to append to; it keeps what has arrived whatever happens, Ctrl-C included.
        progress: whether to draw a bar with bytes, rate and remaining time on stderr.

    Raises:
        TransferError: no connection, a connection that broke, or a server that offers something else.
        OutputError: less free space than the missing bytes need.
        OSError: `part` cannot be written.
    """
    have = part.stat().st_size if part.exists() else 0
    if have > release.size:  # no prefix of this release
        part.unlink()
        have = 0
    if have == release.size:
        return
    _check_room(release, part.parent, release.size - have)
    with _network_errors(release, part), requests.Session() as session, _ask(session, release, have) as answer:
        start = have if answer.status_code == requests.codes.partial_content else 0
        _check_offer(release, answer, start)
        with part.open("ab" if start else "wb") as file, _bar(progress) as bar:
            task = bar.add_task(release.variant, total=release.size, completed=start)
            received = start
            for piece in answer.iter_content(PIECE):
                received += len(piece)
                if received > release.size:
                    raise TransferError(f"the server sends more than the {release.size:,} bytes of the official file")
                file.write(piece)
                bar.update(task, completed=received)
        if received < release.size:  # a server that announced no length just hangs up
            raise TransferError(f"the connection ended after {received:,} of {release.size:,} bytes")


def _check_room(release: Release, folder: Path, missing: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < missing:
        raise OutputError(
            f"no room for {release.file}: {missing:,} bytes to come, {free:,} free in {folder}; "
            f"make room, or name a folder on another disk in {CACHE_VARIABLE}"
        )


def _ask(session: requests.Session, release: Release, have: int) -> requests.Response:
    """The answer with the whole file (200), or with the rest from byte `have` on (206)."""
    # Sizes and ranges count the bytes of the file itself, so it must not be compressed on the way.
    headers = {"Accept-Encoding": "identity"}
    ranged = headers | {"Range": f"bytes={have}-"} if have else headers
    answer = _get(session, release.url, ranged)
    misplaced = answer.status_code == requests.codes.partial_content and _range(answer)[0] != have
    if have and (misplaced or answer.status_code == requests.codes.requested_range_not_satisfiable):
        answer.close()
        answer = _get(session, release.url, headers)
    if answer.status_code not in (requests.codes.ok, requests.codes.partial_content):
        answer.close()
        raise TransferError(f"{_host(release)} answered {answer.status_code} {answer.reason or ''}".rstrip())
    return answer


def _get(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    return session.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, SILENCE_SECONDS))


def _range(answer: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total size that a 206 answer states; None for what it leaves open."""
    match = re.match(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _check_offer(release: Release, answer: requests.Response, start: int) -> None:
    """Refuse another file, such as a login page, before it costs the bytes that are already here."""
    if answer.status_code == requests.codes.partial_content:
        first, total = _range(answer)
        if first != start:
            raise TransferError(f"{_host(release)} answered with another range than it was asked for")
    else:
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
    if total is not None and total != release.size:
        raise TransferError(f"{_host(release)} offers {total:,} bytes instead of {release.size:,}")


@contextmanager
def _network_errors(release: Release, part: Path) -> Iterator[None]:
    """Turn what requests raises into a TransferError of a few words."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise TransferError(f"no secure connection to {_host(release)} ({_cause(error)})") from error
    except requests.exceptions.ProxyError as error:
        raise TransferError(f"the proxy gave no connection to {_host(release)} ({_cause(error)})") from error
    except requests.exceptions.Timeout as error:
        raise TransferError(f"{_host(release)} did not answer in time") from error
    except requests.exceptions.ChunkedEncodingError as error:
        arrived = part.stat().st_size
        raise TransferError(f"the connection broke after {arrived:,} of {release.size:,} bytes") from error
    except requests.exceptions.RequestException as error:
        raise TransferError(f"the connection to {_host(release)} failed ({_cause(error)})") from error


def _cause(error: BaseException) -> str:
    """What the operating system said, from the bottom of a chain of exceptions."""
    while error.__context__ is not None:
        error = error.__context__
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return " ".join(str(words).split())


def _host(release: Release) -> str:
    return urlsplit(release.url).hostname or release.url


def _bar(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
