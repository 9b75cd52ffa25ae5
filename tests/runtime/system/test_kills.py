"""A process that replaces an output again and again is killed at 250 random moments; the output is always whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import sam_edge_runtime
from sam_edge_runtime.system.folders import recover, staged_folder

RUNTIME = str(Path(sam_edge_runtime.__file__).parents[1])
FILES, KILLS = 20, 200  # of folders; files add a quarter
REPLACE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sam_edge_runtime.system import folders
from sam_edge_runtime.system.files import write_files
place, version = Path(sys.argv[2]), int(sys.argv[3])
if sys.argv[4] == "renames":
    folders._exchange = lambda one, other: False
print("ready", flush=True)
while True:
    version += 1
    if sys.argv[4] == "files":
        write_files({place / f"{n}": f"{version}".encode() for n in range(2)}, overwrite=True)
        continue
    with folders.staged_folder(place, overwrite=True, foreign=lambda folder: ()) as folder:
        for n in range(20):
            (folder / f"{n}").write_text(f"{version}")
"""


def kill_after(seconds: float, place: Path, version: int, how: str) -> None:
    """Start a process that replaces the output, and kill it `seconds` after it began."""
    command = [sys.executable, "-c", REPLACE, RUNTIME, str(place), str(version), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(seconds)
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exchange", "renames"])
def test_a_folder_is_always_one_whole_version(how, tmp_path):
    place = tmp_path / "out"
    rng = np.random.default_rng(0)
    version, before = 0, -1
    for _ in range(KILLS // 2):
        kill_after(float(rng.uniform(0.0, 0.05)), place, version, how)
        recover(place)
        if not place.exists():
            assert version == 0  # killed before the first one stood
            continue
        contents = {(place / f"{n}").read_text() for n in range(FILES)}
        assert len(list(place.iterdir())) == FILES
        assert len(contents) == 1
        version = int(contents.pop())
        assert version >= before
        before = version
    assert version > 0
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    with staged_folder(place, overwrite=True, foreign=lambda folder: ()) as folder:
        (folder / "last").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_a_file_is_always_one_whole_version(tmp_path):
    rng = np.random.default_rng(1)
    version = 0
    for _ in range(KILLS // 4):
        kill_after(float(rng.uniform(0.0, 0.05)), tmp_path, version, "files")
        found = [int((tmp_path / f"{n}").read_text()) for n in range(2) if (tmp_path / f"{n}").exists()]
        assert found == sorted(found, reverse=True)  # the first is renamed first
        version = max([version, *found])
    assert version > 0
