"""Drives Chromium over the TypeScript package: builds it and its test page, runs jobs, reads the answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime.automatic import rle

PACKAGE = Path(__file__).parents[2] / "runtime" / "web"
TOOLS = PACKAGE / "node_modules" / ".bin"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]


def why_not() -> str | None:
    """What the browser tests lack on this machine; None where they run."""
    if shutil.which("node") is None:
        return "Node.js is not installed"
    if not TOOLS.is_dir():
        return "the packages of runtime/web are not installed: run `npm ci` there, or `make test`"
    return None if browser_path() else "no Chromium is installed (SAM_EDGE_CHROMIUM names one)"


def browser_path() -> str | None:
    """Where Chromium is."""
    named = os.environ.get("SAM_EDGE_CHROMIUM")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), None)


def build(site: Path) -> None:
    """Compile the package as it is published, and the page of the tests into `site`."""
    for command in (
        ["tsc", "-p", "tsconfig.build.json"],
        ["vite", "build", "--config", "tests/browser/vite.config.ts", "--outDir", str(site)],
    ):
        done = subprocess.run(
            [TOOLS / command[0], *command[1:]], cwd=PACKAGE, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr


def drive(folder: Path, site: Path, data: Path, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Run jobs in Chromium.

    Args:
        folder: for the files of jobs and results.
        site: that `build` made.
        data: what pages may fetch.
        runs: as `runtime/web/tests/browser/drive.mjs` takes them.

    Returns:
        By the name of each run what its page answered.
    """
    jobs, results = folder / "jobs.json", folder / "results.json"
    content = {"executable": browser_path(), "roots": {"site": str(site), "data": str(data)}, "runs": runs}
    jobs.write_text(json.dumps(content), encoding="utf-8")
    done = subprocess.run(
        [str(shutil.which("node")), PACKAGE / "tests" / "browser" / "drive.mjs", jobs, results],
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    for name, each in answers.items():
        assert "failure" not in each, f"{name}: {each['failure']}"
    return answers


def masks_of(answer: dict[str, Any]) -> np.ndarray:
    """The masks (M, H, W) of an answer."""
    return np.stack([rle.decode(each) for each in answer["masks"]])
