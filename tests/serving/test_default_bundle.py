"""Without a bundle nano's is made, once; where it cannot be made, one line says what to install."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sam_edge.serving.default_bundle import STAGES, default_bundle
from sam_edge_runtime import Bundle

from .builders import write_page
from .running import ENVIRONMENT


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_EDGE_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
def test_nano_is_made_once_and_made_anew_where_it_is_damaged():
    seen: list[tuple[str, int, int]] = []
    place = default_bundle(lambda *step: seen.append(step))
    assert (Bundle.open(place).manifest.variant, place.name) == ("nano", "nano")
    assert [number for _, number, _ in seen] == list(range(STAGES))
    assert {total for _, _, total in seen} == {STAGES}
    seen.clear()
    assert default_bundle(lambda *step: seen.append(step)) == place
    assert not seen
    (place / "encoder.onnx").write_bytes(b"truncated")
    default_bundle(lambda *step: seen.append(step))
    assert Bundle.open(place)
    assert len(seen) == STAGES


def test_without_torch_the_remedy_is_named(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from sam_edge.serving import page; page.STATIC = Path(sys.argv[1])\n"
        "from sam_edge.cli.app import run; sys.exit(run(['serve', '--no-browser']))"
    )
    command = [sys.executable, "-c", code, str(write_page(tmp_path / "page"))]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ENVIRONMENT["PYTHONPATH"]},
    )
    assert done.returncode == 2
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("error: ")]
    assert "needs torch" in line
    assert line.endswith("pip install 'sam-edge[export]', or name a bundle")
    assert not (tmp_path / "cache").exists()
