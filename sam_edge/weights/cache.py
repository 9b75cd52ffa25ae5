"""Where downloaded weights are kept.

`SAM_EDGE_CACHE` names the folder; without it, it is the operating system's cache folder for `sam-edge`, as pooch finds
it. A file counts as cached when it has its official size: its hash was checked when it arrived, and is checked again
each time `download` is asked for it. Hashing 2.5 GB merely to print a list would cost seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.system.files import sha256_of

from .catalogue import RELEASES, SHIPPED, Release

CACHE_VARIABLE = "SAM_EDGE_CACHE"


def cache_folder() -> Path:
    """The absolute path of the folder of weights; it need not exist yet.

    Raises:
        UsageError: the folder is not named, and pooch, which knows the default, is not installed.
    """
    named = os.environ.get(CACHE_VARIABLE, "").strip()
    if named:
        return Path(named).expanduser().absolute()
    try:
        # Only here, so that a base install with SAM_EDGE_CACHE set can list its weights.
        import pooch  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"pooch is not installed: run `pip install 'sam-edge[export]'`, or name a folder in {CACHE_VARIABLE}"
        ) from error
    return Path(pooch.os_cache("sam-edge")).expanduser().absolute()


def cached(release: Release) -> Path | None:
    """The path of `release` in the cache, or None where it is missing or not of its official size.

    Where pooch is not installed and no folder is named, nothing can have been downloaded: that is None too.
    """
    try:
        path = cache_folder() / release.file
        return path if path.is_file() and path.stat().st_size == release.size else None
    except (UsageError, OSError):
        return None


def find_by_sha256(sha256: str) -> Path | None:
    """The path of the shipped or cached official weights whose sha256 is `sha256` (either case), or None."""
    for shipped in SHIPPED.values():
        if shipped.path.is_file() and sha256_of(shipped.path) == sha256.lower():
            return shipped.path
    for release in RELEASES.values():
        if release.sha256 == sha256.lower():
            return cached(release)
    return None
