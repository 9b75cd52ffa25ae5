"""Results that appear whole or not at all.

Everything is built beside its destination under a `.partial` name and renamed into place at the end, so that an
interrupted run leaves what was there before. Nothing is replaced unless the caller says so.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sam_edge_runtime.errors import OutputError

_CHUNK = 1 << 20
_ROOM_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def output_error(path: Path, error: OSError) -> OutputError:
    """The one line that says why `path` could not be written."""
    if error.errno in _ROOM_ERRORS:
        return OutputError(f"no room to write {path} ({error.strerror}): free some space or choose another place")
    return OutputError(f"cannot write {path} ({error.strerror or error}): choose another place")


def require_room(path: Path, needed_bytes: int) -> None:
    """Refuse before any work is done if the disk that will hold `path` has less than `needed_bytes` free.

    Raises:
        OutputError: too little room, with both figures.
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
            f"no room for {path}: about {needed_bytes / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free"
        )


@contextmanager
def staged_folder(destination: Path, *, overwrite: bool, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """A fresh folder to fill, renamed to `destination` when the block ends without an error.

    Args:
        destination: where the folder is to appear; behind a link, where the link leads.
        overwrite: replace an existing folder; without it an existing one is an error.
        replaceable: whether an existing folder is one of ours. Others are never replaced, `overwrite` or not.

    Raises:
        OutputError: the destination exists and may not be replaced, or cannot be written.
    """
    check_destination(destination, overwrite=overwrite, replaceable=replaceable)
    place = Path(os.path.realpath(destination))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        staging = place.parent / _staging_name(f"{place.name}.")
        staging.mkdir()
    except OSError as error:
        raise output_error(destination, error) from error
    try:
        yield staging
        check_destination(place, overwrite=overwrite, replaceable=replaceable)  # the work may have taken hours
        _swap_in(staging, place)
    except OSError as error:
        raise output_error(destination, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_destination(destination: Path, *, overwrite: bool, replaceable: Callable[[Path], bool]) -> None:
    """Refuse a destination that is taken, so that a long job can ask before it starts.

    Raises:
        OutputError: see `staged_folder`.
    """
    try:
        if not destination.exists() and not destination.is_symlink():
            return
        if destination.is_dir() and not any(destination.iterdir()):
            return
        ours = destination.is_dir() and replaceable(destination)
    except OSError as error:
        raise output_error(destination, error) from error
    if not ours:
        raise OutputError(f"{destination} exists and was not made by sam-edge: choose another place")
    if not overwrite:
        raise OutputError(f"{destination} exists: add --overwrite to replace it")


def _swap_in(staging: Path, destination: Path) -> None:
    """Rename `staging` to `destination`; what was there goes only once the new one stands."""
    if not destination.exists():
        staging.rename(destination)
        return
    old = staging.with_suffix(".old")
    destination.rename(old)
    try:
        staging.rename(destination)
    except BaseException:  # an interrupt too
        old.rename(destination)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_file(destination: Path, content: bytes, *, overwrite: bool) -> None:
    """Write one file whole or not at all.

    Raises:
        OutputError: the file exists and `overwrite` is false, or it cannot be written.
    """
    write_files({destination: content}, overwrite=overwrite)


def write_files(contents: dict[Path, bytes], *, overwrite: bool) -> None:
    """Write files that belong together: all of them, or none where one has no room or may not be written.

    All are written beside their destinations before the first one is renamed; a rename takes no room. A machine that
    stops between two renames leaves whole files, the earlier ones new.

    Args:
        contents: what each destination is to hold. Folders are made as needed, and taken away again if it fails.
        overwrite: replace files that exist.

    Raises:
        OutputError: a destination is taken or cannot be written; it is the one that is named.
    """
    for destination in contents:
        check_file(destination, overwrite=overwrite)
    staged: dict[Path, Path] = {}
    made: list[Path] = []  # the deepest first
    try:
        for destination, content in contents.items():
            with _naming(destination):
                parent = destination.parent
                made[:0] = [folder for folder in (parent, *parent.parents) if not folder.exists()]
                parent.mkdir(parents=True, exist_ok=True)
                check_file(destination, overwrite=overwrite)  # too long a name shows only in a folder that is there
                staged[destination] = parent / _staging_name()
                staged[destination].touch(exist_ok=False)
                staged[destination].write_bytes(content)
        for destination, staging in staged.items():
            with _naming(destination):
                staging.replace(destination)
    finally:
        for staging in staged.values():
            with suppress(OSError):  # most often it is gone; where it cannot be looked for, it was never made
                staging.unlink()
        for folder in made:
            with suppress(OSError):  # only what stayed empty can be removed
                folder.rmdir()


def check_file(destination: Path, *, overwrite: bool) -> None:
    """Refuse a file that may not be replaced, so that a long job can ask before it starts.

    Raises:
        OutputError: the destination exists and `overwrite` is false, it is no file, or nothing can have its name.
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


@contextmanager
def _naming(destination: Path) -> Iterator[None]:
    """What the system refuses in the block is said of `destination`."""
    try:
        yield
    except OSError as error:
        raise output_error(destination, error) from error


def _staging_name(prefix: str = "") -> str:
    """A name that nothing has. Unlike what `tempfile` makes, a file or folder made under it follows the umask."""
    return f".{prefix}{secrets.token_hex(6)}.partial"
