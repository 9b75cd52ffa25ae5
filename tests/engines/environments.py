"""Environments of their own for engines that are older than the one in use, kept in `.venv-NAME` of the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (ROOT, ROOT / "runtime")  # of the project, on the environments' path; torch is in none of them
RUN_GOLDEN = Path(__file__).with_name("run_golden.py")
OLD_PYTHON = "python3.11"  # the newest that wheels of all these engines exist for


def environment(name: str, *packages: str) -> Path:
    """The interpreter of an environment with `packages`, created when there is none. Skips where that fails."""
    home = ROOT / f".venv-{name}"
    python, done = home / "bin" / "python", home / "installed"
    if done.exists() and done.read_text() == "\n".join(packages):
        return python
    base = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which(OLD_PYTHON)
    if base is None:
        pytest.skip(f"{packages[0]} requires Python 3.11 or older, and there is no {OLD_PYTHON} here")
    shutil.rmtree(home, ignore_errors=True)
    for command in ((base, "-m", "venv", str(home)), (str(python), "-m", "pip", "install", "--quiet", *packages)):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            lines = made.stderr.strip().splitlines() or ["no reason given"]
            pytest.skip(f"{packages[0]} cannot be installed here: {lines[-1]}")
    done.write_text("\n".join(packages))
    return python


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an environment's interpreter with the project's runtime on its path."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, ROOMS))}
    return subprocess.run([str(python), "-s", *arguments], capture_output=True, text=True, check=False, env=variables)


def golden_figures(python: Path, bundle: Path) -> dict[str, Any]:
    """What a bundle's golden test measures there: `engine` and the figures, or `error`."""
    done = run(python, str(RUN_GOLDEN), str(bundle))
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
