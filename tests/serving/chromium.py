"""Scripts that drive Chromium over the built page: runtime/web/page/tests/browser.

They need the built page (`make web`), Node.js and Chromium. With `SCREENSHOTS` in the environment some leave pictures
of the main states in that folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sam_edge.serving.page import INDEX, STATIC
from tests.web.browser import PACKAGE, browser_path, why_not

SCRIPTS = PACKAGE / "page" / "tests" / "browser"
SAMPLES = PACKAGE / "page" / "public" / "samples"
SCREENSHOTS = os.environ.get("SCREENSHOTS", "")


def why_no_page() -> str | None:
    """What the tests of the page lack on this machine; None where they run."""
    return why_not() or (None if (STATIC / INDEX).is_file() else "the page is not built: run `make web`")


def drive(script: str, *arguments: str | Path) -> str:
    """Run a script; what it prints."""
    environment = {**os.environ, "SAM_EDGE_CHROMIUM": browser_path() or ""}
    done = subprocess.run(
        [shutil.which("node") or "node", SCRIPTS / script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
