"""Download an official release into the cache.

pooch decides whether a download is needed, checks the sha256 and moves the file into place. `transfer` fetches the
bytes, because pooch's own downloader starts over after a broken connection. So the final name only ever holds the right
file, and `<file>.part` holds the bytes that have arrived so far.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pooch

from sam_edge_runtime.errors import CheckpointError, OutputError, UsageError
from sam_edge_runtime.system.files import sha256_of

from .cache import CACHE_VARIABLE, cache_folder, cached
from .catalogue import Release
from .licences import require_accepted
from .transfer import TransferError, fetch


def download(release: Release, *, progress: bool = True) -> Path:
    """The path of `release` in the cache; it is downloaded if it is missing or has another sha256.

    Where the release states no sha256, whoever loads the file checks its names, shapes and numbers.

    Args:
        release: a row of the catalogue.
        progress: whether to draw a progress bar on stderr.

    Raises:
        UsageError: it is not in the cache, and its licence restricts more than credit and was not accepted.
        CheckpointError: the network failed (the bytes so far are kept, and the next call resumes), or the downloaded
            file has another sha256 (it is removed).
        OutputError: the cache cannot be written, or its disk is full.
    """
    here = cached(release)
    if here is None:
        require_accepted(release.variant, release.licence, release.terms)
    if not release.url:
        if here is not None:
            return here
        raise UsageError(
            f"{release.variant} has no public address yet: its file is {release.origin}; name it, or any address that "
            f"has it, with --from (sha256 {release.sha256})"
        )
    folder = cache_folder()
    target, part = folder / release.file, folder / f"{release.file}.part"

    def downloader(_url: str, output: str | Path, _pooch: object) -> None:
        fetch(release, part, progress=progress)
        _hand_over(part, Path(output))

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _quiet_pooch():
            pooch.retrieve(
                release.url,
                known_hash=f"sha256:{release.sha256}" if release.sha256 else None,
                fname=release.file,
                path=folder,
                downloader=downloader,
            )
        part.unlink(missing_ok=True)
    except TransferError as error:
        raise CheckpointError(
            f"{release.variant} was not downloaded: {error}; {_remedy(release, target, part)}"
        ) from error
    except ValueError as error:  # what pooch raises where the hash differs
        part.unlink(missing_ok=True)
        got = re.findall(r"[0-9a-f]{64}", str(error))[-1:] or ["another"]
        raise CheckpointError(
            f"{release.file} from {release.url} is not the official file and was removed: "
            f"expected sha256 {release.sha256}, got {got[0]}; try again, or get it elsewhere and save it as {target}"
        ) from error
    except OSError as error:
        raise OutputError(_unwritable(error, folder)) from error
    return target


def take(release: Release, path: Path) -> Path:
    """Copy a file that was fetched in another way into the cache; returns its path there.

    Args:
        release: a row of the catalogue.
        path: the file.

    Raises:
        UsageError: the licence restricts more than credit and was not accepted.
        CheckpointError: the file cannot be read, or is not the official one.
        OutputError: the cache cannot be written.
    """
    require_accepted(release.variant, release.licence, release.terms)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path} ({error.strerror}): check the path") from error
    if release.sha256 and found != release.sha256:
        raise CheckpointError(
            f"{path} is not the official file of {release.variant}: expected sha256 {release.sha256}, got {found}"
        )
    folder = cache_folder()
    target, part = folder / release.file, folder / f"{release.file}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, part)
        part.replace(target)
    except OSError as error:
        raise OutputError(_unwritable(error, folder)) from error
    return target


def _hand_over(part: Path, output: Path) -> None:
    """Give pooch the file under its own temporary name, which pooch deletes if it does not finish."""
    try:
        # A hard link keeps `part` too: Ctrl-C while 2.5 GB are hashed must not lose the download.
        output.unlink(missing_ok=True)
        output.hardlink_to(part)
    except OSError:
        part.replace(output)  # a file system without links


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Silence pooch's messages, and restore its logger's level afterwards."""
    logger = pooch.get_logger()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _remedy(release: Release, target: Path, part: Path) -> str:
    arrived = part.stat().st_size if part.exists() else 0
    stated = f" (sha256 {release.sha256})" if release.sha256 else ""
    again = f"run it again to resume after {arrived:,} bytes" if arrived else "try again"
    return f"{again}, or download {release.url} by hand and save it as {target}{stated}"


def _unwritable(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk of {folder} is full: free some space and run it again (the bytes so far are kept), "
            f"or name a folder on another disk in {CACHE_VARIABLE}"
        )
    return f"cannot write to {folder} ({error.strerror or error}): name another folder in {CACHE_VARIABLE}"
