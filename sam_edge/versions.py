"""Versions of what made or judged something, for manifests and reports."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def tool_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of Python, sam-edge, numpy and `packages`, as installed."""
    found = {"python": platform.python_version()}
    for package in ("sam-edge", "numpy", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
