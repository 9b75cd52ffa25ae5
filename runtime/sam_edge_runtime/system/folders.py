"""Output folders that appear complete or not at all, and never replace files that sam-edge did not write.

A folder is built beside its destination under a `.partial` name and put in place at the end, so that an interrupted
run leaves what was there before. An earlier output is replaced only if everything in it was written by sam-edge. Both
folders trade places in one step where the system can (Linux's renameat2 with RENAME_EXCHANGE, macOS's renamex_np with
RENAME_SWAP), so the name always leads to one of them. Elsewhere the old folder is set aside
under an `.old` name first; `recover` puts it back after a kill between the two renames.

A folder that a killed process left is removed by the next command with the same destination. A lock on
the folder, which the system releases when the process ends, shows whether the process is still running.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time

from sam_edge_runtime.errors import OutputError

from .files import LEFT_BEHIND, output_error, staging_name

if sys.platform != "win32":
    import fcntl

# Names the files of a folder that sam-edge did not write; None where the folder is no output of sam-edge at all.
Foreign = Callable[[Path], "tuple[str, ...] | None"]

PARTIAL, OLD = ".partial", ".old"
_SHOWN = 3  # names in an error's one line
# What file managers leave in any folder.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".directory"})
_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2  # linux/fcntl.h, linux/fs.h; macOS sys/stdio.h


def is_litter(name: str) -> bool:
    """Whether file managers create files of this name: `.DS_Store`, `._*`, `Thumbs.db`."""
    return name in _LITTER or name.startswith("._")


def others_than(folder: Path, names: Callable[[str], bool]) -> tuple[str, ...]:
    """The files and links below a folder, by POSIX path, that `names` does not know. Empty folders count as known."""
    return tuple(
        sorted(
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if (path.is_symlink() or not path.is_dir())
            and not is_litter(path.name)
            and not names(path.relative_to(folder).as_posix())
        )
    )


@contextmanager
def staged_folder(destination: Path, *, overwrite: bool, foreign: Foreign) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `destination` when the block ends without an error.

    Args:
        destination: where the folder appears; of a link, the folder that it leads to.
        overwrite: replace an existing output; without it an existing one is an error.
        foreign: see `Foreign`. A folder with anything foreign in it is never replaced, `overwrite` or not.

    Raises:
        OutputError: the destination exists and may not be replaced, or cannot be written.
    """
    check_destination(destination, overwrite=overwrite, foreign=foreign)
    place = Path(os.path.realpath(destination))
    staging = place.parent / staging_name(f"{place.name}.")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(place)
        staging.mkdir()
    except OSError as error:
        raise output_error(destination, error) from error
    lock = _lock(staging)
    try:
        yield staging
        check_destination(place, overwrite=overwrite, foreign=foreign)  # the work may have taken hours
        _put_in_place(staging, place)
    except OSError as error:
        raise output_error(destination, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def check_destination(destination: Path, *, overwrite: bool, foreign: Foreign) -> None:
    """Refuse a folder that may not be replaced; a long job calls this before it starts.

    Raises:
        OutputError: see `staged_folder`.
    """
    try:
        recover(destination)
        if not destination.exists() and not destination.is_symlink():
            return
        if destination.is_dir() and not any(destination.iterdir()):
            return
        lost = foreign(destination) if destination.is_dir() else None
    except OSError as error:
        raise output_error(destination, error) from error
    if lost is None:
        raise OutputError(f"{destination} exists and was not made by sam-edge: choose another place")
    if lost:
        shown = ", ".join(map(repr, lost[:_SHOWN])) + (f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else "")
        raise OutputError(
            f"{destination} holds {shown}, which sam-edge did not write or somebody has changed: move it away, or "
            "choose another place"
        )
    if not overwrite:
        raise OutputError(f"{destination} exists: add --overwrite to replace it")


def recover(destination: Path) -> None:
    """Restore the folder that a killed process had renamed before its new folder was in place; otherwise do nothing."""
    with suppress(OSError, ValueError):  # no such parent, no possible name, or another process was faster
        place = Path(os.path.realpath(destination))
        if place.exists() or place.is_symlink():
            return
        for old in _beside(place, OLD):
            old.rename(place)
            return


def _put_in_place(staging: Path, destination: Path) -> None:
    """Rename the new folder to its destination. An old folder is deleted after that, or put back."""
    if not destination.exists():
        staging.rename(destination)
        return
    if _exchange(staging, destination):
        return  # the old content now lies under the staging name, which the caller removes
    old = staging.with_suffix(OLD)
    destination.rename(old)
    try:
        staging.rename(destination)
    except BaseException:  # an interrupt too
        old.rename(destination)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False where the system or the file system cannot."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        a, b = os.fsencode(one), os.fsencode(other)
        if sys.platform == "linux":
            failed = library.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE)
        elif sys.platform == "darwin":
            failed = library.renamex_np(a, b, _RENAME_SWAP)
        else:
            return False
    except (AttributeError, OSError, TypeError):  # an older C library; TypeError: CDLL(None) on Windows
        return False
    return int(failed) == 0


def _lock(folder: Path) -> int | None:
    """A lock on a folder until it is closed or the process ends; None where it cannot be had."""
    if sys.platform == "win32":
        return None
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if handle is not None:
            os.close(handle)
        return None
    return handle


def _remove_left_behind(place: Path) -> None:
    """Remove the staging folders for `place` whose processes were killed, and old folders that a new one replaced."""
    endings = (PARTIAL, OLD) if place.exists() else (PARTIAL,)  # an old folder may be the only copy
    for path in _beside(place, *endings):
        with suppress(OSError):
            if time() - path.stat().st_mtime < LEFT_BEHIND:
                continue  # its owner may not have locked it yet
            lock = _lock(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _beside(place: Path, *endings: str) -> list[Path]:
    """Staging and old folders of `place`, which lie beside it, sorted by name."""
    pattern = re.compile(rf"\.{re.escape(place.name)}\.[0-9a-f]+({'|'.join(map(re.escape, endings))})")
    folders = (path for path in place.parent.iterdir() if pattern.fullmatch(path.name))
    return sorted(path for path in folders if path.is_dir() and not path.is_symlink())
