"""The page in Chromium, as a person uses it: the scripts in runtime/web/page/tests/browser do the clicking.

They need the built page (`make web`), Node.js and Chromium. With `SCREENSHOTS` in the environment they leave pictures
of the main states in that folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from sam_edge.data.sample_photos import copy_samples
from sam_edge.serving.page import INDEX, STATIC
from sam_edge_runtime.automatic import rle
from tests.web.browser import PACKAGE, browser_path, why_not

from .running import running

SCRIPTS = PACKAGE / "page" / "tests" / "browser"
CAT = (451, 300)
CAT_CLICKS = ("220,170", "120,120", "300,60", "400,250")


def _why_not() -> str | None:
    return why_not() or (None if (STATIC / INDEX).is_file() else "the page is not built: run `make web`")


pytestmark = pytest.mark.skipif(_why_not() is not None, reason=str(_why_not()))


@pytest.fixture(scope="module")
def nano() -> Path:
    from sam_edge.serving.default_bundle import default_bundle

    return default_bundle(lambda stage, done, total: None)


def _drive(script: str, *arguments: str | Path) -> None:
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


def test_photo_page_does_what_it_promises(nano: Path) -> None:
    with running(STATIC, nano, "--port", "0") as server:
        _drive("photo.mjs", server.address, os.environ.get("SCREENSHOTS", ""))


def test_second_bundle_is_compared(nano: Path, tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(nano)
    with running(STATIC, nano, tmp_path / "again", "--port", "0") as server:
        _drive("compare.mjs", server.address, os.environ.get("SCREENSHOTS", ""))


def test_browser_and_server_give_the_same_masks(nano: Path, tmp_path: Path) -> None:
    photo = copy_samples(tmp_path / "photos")[0]
    with running(STATIC, nano, "--port", "0") as server:
        _drive("engines.mjs", server.address, photo, tmp_path / "records", *map(str, CAT), *CAT_CLICKS)
    browser, server_side = (
        json.loads((tmp_path / "records" / f"{place}.json").read_text())["annotations"]
        for place in ("browser", "server")
    )
    assert len(browser) == len(server_side) == len(CAT_CLICKS)
    for one, other in zip(browser, server_side, strict=True):
        a, b = rle.decode(one["segmentation"]), rle.decode(other["segmentation"])
        assert np.logical_and(a, b).sum() / np.logical_or(a, b).sum() >= 0.999
        assert one["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-3)


def test_annotation_session_by_script(nano: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "masks"
    copy_samples(photos)
    with running(STATIC, nano, "--annotate", photos, "--out", out, "--port", "0") as server:
        _drive("annotate.mjs", server.address, os.environ.get("SCREENSHOTS", ""))
    records = [json.loads(path.read_text()) for path in sorted(out.glob("*.json")) if "annotations" in path.read_text()]
    assert len(records) == len(list(photos.iterdir()))
    assert all(each["annotations"] for each in records)
    names = [mask["sam_edge"].get("name") for each in records for mask in each["annotations"]]
    assert names.count("thing") == 1


def test_static_site_isolates_itself(nano: Path, tmp_path: Path) -> None:
    from sam_edge.cli.app import run

    site = tmp_path / "site"
    assert run(["site", str(nano), "--out", str(site)]) == 0
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        thread = Thread(target=host.serve_forever)
        thread.start()
        try:
            _drive("site.mjs", f"http://127.0.0.1:{host.server_port}/")
        finally:
            host.shutdown()
            thread.join()
