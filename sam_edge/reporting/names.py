"""Short names of bundles and data for tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam_edge_runtime.errors import UsageError


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as few as make all names different.

    Raises:
        UsageError: a path occurs twice.
    """
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        twice = next(path for path, each in zip(paths, parts, strict=True) if parts.count(each) > 1)
        raise UsageError(f"{twice} is named twice: name each once")
    longest = max(map(len, parts), default=1)
    for count in range(1, longest + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
