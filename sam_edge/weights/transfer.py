"""Download one file over HTTP, resuming where an earlier attempt ended.

Bytes are appended to a `.part` file. If it has some already, a range request (RFC 9110, section 14) fetches the rest.
If the server sends the whole file anyway, the download starts over. This module does not check the bytes: `download`
checks the sha256, which reveals a file that changed between two attempts. There is no lock: two processes that download
the same file at the same time corrupt it, which the sha256 reveals too.
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
from sam_edge_runtime.system.files import sha256_of

from .cache import CACHE_VARIABLE
from .catalogue import Release

CHUNK = 1 << 18  # bytes; the most that a broken connection loses
CONNECT_SECONDS, READ_SECONDS = 15, 60


class TransferError(Exception):
    """The network or the server did not deliver the file; the message says why, in a few words."""


def fetch(release: Release, part: Path, *, progress: bool) -> None:
    """Complete `part` to the full size of `release`, downloading only the missing bytes.

    Where the size is unknown, the file is whole when the server ends it, and bytes that are there already are whole if
    they have the hash; `download` checks the hash in any case.

    Args:
        release: the file to download.
        part: the file to append to; the bytes that have arrived stay in it after an error or Ctrl-C.
        progress: whether to draw a bar with bytes, rate and remaining time on stderr.

    Raises:
        TransferError: no connection, a connection that broke, or a server that offers another file.
        OutputError: less free space than the missing bytes need.
        OSError: `part` cannot be written.
    """
    have = part.stat().st_size if part.exists() else 0
    if release.size is not None and have > release.size:  # it cannot be the beginning of this release
        part.unlink()
        have = 0
    if have == release.size or (have and release.size is None and sha256_of(part) == release.sha256):
        return
    _check_free_space(release, part.parent, release.about_bytes - have)
    with _network_errors(release, part), requests.Session() as session, _request(session, release, have) as response:
        start = have if response.status_code == requests.codes.partial_content else 0
        _check_response(release, response, start)
        with part.open("ab" if start else "wb") as file, _bar(progress) as bar:
            task = bar.add_task(release.variant, total=release.about_bytes, completed=start)
            received = start
            for chunk in response.iter_content(CHUNK):
                received += len(chunk)
                if release.size is not None and received > release.size:
                    raise TransferError(f"the server sends more than the {release.size:,} bytes of the official file")
                file.write(chunk)
                bar.update(task, completed=received)
        if (
            release.size is not None and received < release.size
        ):  # without a Content-Length, requests does not notice that the server closed early
            raise TransferError(f"the connection ended after {received:,} of {release.size:,} bytes")


def _check_free_space(release: Release, folder: Path, missing: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < missing:
        raise OutputError(
            f"no space for {release.file}: {missing:,} bytes are missing, {free:,} are free in {folder}; "
            f"free some space, or name a folder on another disk in {CACHE_VARIABLE}"
        )


def _request(session: requests.Session, release: Release, have: int) -> requests.Response:
    """A response with the whole file (200), or with the rest from byte `have` on (206)."""
    # Sizes and ranges count the bytes of the file itself, so the response must not be compressed.
    headers = {"Accept-Encoding": "identity"}
    ranged = headers | {"Range": f"bytes={have}-"} if have else headers
    response = _get(session, release.url, ranged)
    wrong_range = response.status_code == requests.codes.partial_content and _range(response)[0] != have
    if have and (wrong_range or response.status_code == requests.codes.requested_range_not_satisfiable):
        response.close()
        response = _get(session, release.url, headers)
    if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
        response.close()
        raise TransferError(f"{_host(release)} responded {response.status_code} {response.reason or ''}".rstrip())
    return response


def _get(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    return session.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))


def _range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total size that a 206 response states; None for a number that it does not state."""
    match = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _check_response(release: Release, response: requests.Response, start: int) -> None:
    """Refuse another file, such as a login page, before it overwrites the bytes that have arrived."""
    if response.status_code == requests.codes.partial_content:
        first, total = _range(response)
        if first != start:
            raise TransferError(f"{_host(release)} sent another range than the requested one")
    else:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
    if total is not None and release.size is not None and total != release.size:
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
        raise TransferError(f"{_host(release)} did not respond in time") from error
    except requests.exceptions.ChunkedEncodingError as error:
        arrived = part.stat().st_size
        of_all = "" if release.size is None else f" of {release.size:,}"
        raise TransferError(f"the connection broke after {arrived:,}{of_all} bytes") from error
    except requests.exceptions.RequestException as error:
        raise TransferError(f"the connection to {_host(release)} failed ({_cause(error)})") from error


def _cause(error: BaseException) -> str:
    """The operating system's message, from the innermost of a chain of exceptions."""
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
