"""Atomic writes: a file or folder appears complete, or not at all.

Everything is written beside its destination under a `.partial` name and renamed at the end, so an interrupted run
leaves the destination as it was. Nothing is replaced unless the caller allows it. What a killed process left under such
a name is removed by the next one that writes to the same folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from time import time

from sam_edge_runtime.errors import OutputError

_CHUNK = 1 << 20
LEFT_BEHIND = 60  # seconds without a change after which what has a `.partial` name counts as left behind
_STAGED_FILE = re.compile(r"\.[0-9a-f]{12}\.partial")  # see `staging_name`
_SPACE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def output_error(path: Path, error: OSError) -> OutputError:
    """The error for a `path` that the system refused to write."""
    if error.errno in _SPACE_ERRORS:
        return OutputError(f"no space to write {path} ({error.strerror}): free some space or choose another place")
    return OutputError(f"cannot write {path} ({error.strerror or error}): choose another place")


def require_space(path: Path, needed_bytes: int) -> None:
    """Refuse before any work if the disk of `path` has less than `needed_bytes` free.

    Raises:
        OutputError: the space is too small; the message has both figures.
    """
    folder = path.absolute()
    try:
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise output_error(path, error) from error
    if free < needed_bytes:
        raise OutputError(
            f"no space for {path}: it needs about {needed_bytes / 1e6:.0f} MB and {free / 1e6:.0f} MB are free; "
            "free some space or choose another place"
        )


def write_file(destination: Path, content: bytes, *, overwrite: bool) -> None:
    """Write one file completely, or not at all.

    Raises:
        OutputError: the file exists and `overwrite` is false, or it cannot be written.
    """
    write_files({destination: content}, overwrite=overwrite)


def write_files(contents: dict[Path, bytes], *, overwrite: bool) -> None:
    """Write files that belong together: all of them, or none if one cannot be written.

    All are written beside their destinations before the first is renamed; a rename needs no space. If the machine stops
    between two renames, every file is complete, and some are new.

    Args:
        contents: the content of each destination. Missing folders are made, and removed again on failure.
        overwrite: replace files that exist.

    Raises:
        OutputError: a destination exists and may not be replaced, or cannot be written; the message names it.
    """
    for destination in contents:
        check_file(destination, overwrite=overwrite)
    staged: dict[Path, Path] = {}
    made: list[Path] = []  # folders, the deepest first
    try:
        for destination, content in contents.items():
            with _naming(destination):
                parent = destination.parent
                made[:0] = [folder for folder in (parent, *parent.parents) if not folder.exists()]
                parent.mkdir(parents=True, exist_ok=True)
                _remove_left_behind(parent)
                check_file(
                    destination, overwrite=overwrite
                )  # again: a name that is too long fails only in an existing folder
                staged[destination] = parent / staging_name()
                staged[destination].touch(exist_ok=False)
                staged[destination].write_bytes(content)
        for destination, staging in staged.items():
            with _naming(destination):
                staging.replace(destination)
    finally:
        for staging in staged.values():
            with suppress(OSError):  # it was renamed, or never made
                staging.unlink()
        for folder in made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def replace_durably(destination: Path, content: bytes) -> None:
    """Write a file that survives a loss of power once this returns: the old content or the new one, never a part.

    File and folder are flushed to the disk, which takes milliseconds: for a person's work, not for thousands of files.

    Args:
        destination: replaced where it exists; its folder has to exist.
        content: the whole file.

    Raises:
        OutputError: it cannot be written.
    """
    staging = destination.parent / staging_name()
    with _naming(destination):
        try:
            staging.touch(exist_ok=False)
            staging.write_bytes(content)
            flush_file(staging)
            staging.replace(destination)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise
        flush_folder(destination.parent)


def flush_file(path: Path) -> None:
    """Flush a file's content to the disk.

    Raises:
        OSError: the system refuses.
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush a folder's names to the disk, where the system can.

    Raises:
        OSError: the system refuses.
    """
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_file(destination: Path, *, overwrite: bool) -> None:
    """Refuse a file that may not be replaced; a long job calls this before it starts.

    Raises:
        OutputError: the destination exists and `overwrite` is false, it is no regular file, or the system refuses its
            name.
    """
    with _naming(destination):
        try:
            mode = destination.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
    if not stat.S_ISREG(mode):
        raise OutputError(f"{destination} is a folder or a device: name a file")
    if not overwrite:
        raise OutputError(f"{destination} exists: add --overwrite to replace it")


@lru_cache(maxsize=1024)  # a process looks into each folder once
def _remove_left_behind(folder: Path) -> None:
    """Remove the staging files that killed processes left in a folder."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _STAGED_FILE.fullmatch(path.name) is None:
                continue
            with suppress(OSError):  # another process was faster
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and time() - status.st_mtime >= LEFT_BEHIND:
                    path.unlink()


@contextmanager
def _naming(destination: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into an error that names `destination`."""
    try:
        yield
    except OSError as error:
        raise output_error(destination, error) from error


def is_staging(path: Path) -> bool:
    """Whether a file or folder is one that an interrupted write left, by its name."""
    return re.fullmatch(r"\..*[0-9a-f]{12}\.partial", path.name) is not None


def staging_name(prefix: str = "") -> str:
    """An unused name. Unlike `tempfile`'s files and folders, those made under it follow the umask."""
    return f".{prefix}{secrets.token_hex(6)}.partial"
