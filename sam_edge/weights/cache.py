"""The cache of downloaded weights.

`SAM_EDGE_CACHE` names its folder. The default is the operating system's cache folder for `sam-edge`, as pooch gives it.
A file of the official size, where that is known, counts as cached: `download` checked its hash when it arrived, and
checks it again in each call. Listing the models does not hash 2.5 GB, which would take seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.system.files import sha256_of

from .catalogue import RELEASES, SHIPPED, SOURCE_FOLDER, Release

CACHE_VARIABLE = "SAM_EDGE_CACHE"


def cache_folder() -> Path:
    """The absolute path of the cache folder, which may not exist yet.

    Raises:
        UsageError: `SAM_EDGE_CACHE` is not set, and pooch, which knows the default, is not installed.
    """
    named = os.environ.get(CACHE_VARIABLE, "").strip()
    if named:
        return Path(named).expanduser().absolute()
    try:
        # Imported here, so that a base install with SAM_EDGE_CACHE set can list its weights.
        import pooch  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"pooch is not installed: run `pip install 'sam-edge[export]'`, or name a folder in {CACHE_VARIABLE}"
        ) from error
    return Path(pooch.os_cache("sam-edge")).expanduser().absolute()


def cached(release: Release) -> Path | None:
    """The path of `release` in the cache, or None if it is missing or has another size than the official file.

    A file of this project's source is found there too. None also where the cache folder is unknown: pooch is not
    installed, and `SAM_EDGE_CACHE` is not set.
    """
    if release.in_source and (path := _whole(SOURCE_FOLDER / release.file, release)) is not None:
        return path
    try:
        return _whole(cache_folder() / release.file, release)
    except UsageError:
        return None


def _whole(path: Path, release: Release) -> Path | None:
    """The path, if a file of the release's size is there."""
    try:
        return path if path.is_file() and release.size in (None, path.stat().st_size) else None
    except OSError:
        return None


def find_by_sha256(sha256: str) -> Path | None:
    """The path of the shipped or cached weights with this sha256 (upper or lower case), or None."""
    for shipped in SHIPPED.values():
        if shipped.path.is_file() and sha256_of(shipped.path) == sha256.lower():
            return shipped.path
    for release in RELEASES.values():
        if release.sha256 == sha256.lower():
            return cached(release)
    return None
