"""Versions of packages and of sam-edge itself, for manifests and reports."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def tool_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of Python, sam-edge, numpy and `packages`."""
    versions = {"python": platform.python_version()}
    for package in ("sam-edge", "numpy", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def commit() -> str | None:
    """The commit of sam-edge's checkout, with `-dirty` if files were changed; None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607  # whichever git the user has
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
