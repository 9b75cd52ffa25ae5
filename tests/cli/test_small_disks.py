"""`annotate` and `train` on a disk that fills up or cannot be written: one line, nothing lost, and they go on later."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from sam_edge.training.checkpoint import checkpoints, read_training_state
from tests.annotation.test_annotate import arguments as annotation
from tests.annotation.test_annotate import shards
from tests.data.builders import pairs, write_tar
from tests.runtime.standin import write_onnx_bundle
from tests.training.test_trainer import ENVIRONMENT, RECIPE, losses, write_shards
from tests.training.test_trainer import arguments as training

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# In a mount namespace of its own, which ends with the process: run on a small disk (`rw`) or one that cannot be written
# (`ro`), copy what is there, give the disk more space, run the second command, copy again.
SCRIPT = """
disk=$1 kept=$2 mode=$3 size=$4 first=$5 second=$6
mount -t tmpfs -o "size=$size" tmpfs "$disk" || exit 77
if [ "$mode" = ro ]; then mount -o remount,ro "$disk" || exit 77; fi
sh -c "$first" > "$kept/said" 2>&1; echo $? > "$kept/code"
cp -r "$disk" "$kept/before"
mount -o remount,rw,size=1g "$disk" || exit 77
sh -c "$second" > "$kept/said again" 2>&1; echo $? > "$kept/code again"
cp -r "$disk" "$kept/after"
"""


def on_a_small_disk(tmp_path: Path, mode: str, size: str, first: list[str], second: list[str]) -> Path:
    """Run two commands of sam-edge, the first on a disk that is too small or read-only; the folder of what was kept."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no `unshare` to mount a small disk")
    kept = tmp_path / "kept"
    kept.mkdir()
    parts = [str(ROOT / part) for part in ("", "exporters", "quant", "runtime")]
    runs = [shlex.join([sys.executable, "-m", "sam_edge", *each]) for each in (first, second)]
    arguments = [str(tmp_path / "disk"), str(kept), mode, size, *runs]
    done = subprocess.run(
        [unshare, "--map-root-user", "--mount", "/bin/sh", "-c", SCRIPT, "sh", *arguments],
        env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(parts)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and ("unshare" in done.stderr or done.returncode == 77):
        pytest.skip(f"this machine does not allow to mount a small disk: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    said = (kept / "said").read_text()
    assert (kept / "code").read_text() == "2\n", said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    reason = {"rw": "no space to write", "ro": "Read-only file system"}[mode]
    assert reason in " ".join(said.split())
    assert (kept / "code again").read_text() == "0\n", (kept / "said again").read_text()
    return kept


@pytest.fixture
def disk(tmp_path) -> Path:
    path = tmp_path / "disk"
    path.mkdir()
    return path


@pytest.mark.parametrize(("mode", "size"), [("rw", "24k"), ("rw", "64k"), ("ro", "1m")])
def test_annotate_goes_on_where_a_full_or_read_only_disk_stopped_it(tmp_path, disk, mode, size):
    bundle, shard = write_onnx_bundle(tmp_path / "bundle").root, write_tar(tmp_path / "in.tar", pairs(12))
    whole = tmp_path / "whole"
    command = [sys.executable, "-m", "sam_edge", *annotation(shard, bundle, whole)]
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    run = annotation(shard, bundle, disk / "out")
    kept = on_a_small_disk(tmp_path, mode, size, run, run)
    before = kept / "before" / "out"
    if mode == "ro":
        assert not before.exists()
    for path in before.rglob("*.json"):
        json.loads(path.read_bytes())
    for name, content in shards(before).items():
        assert content == shards(whole)[name]
    assert not list(before.rglob("*.partial"))
    assert shards(kept / "after" / "out") == shards(whole)
    assert not (kept / "after" / "out" / ".work").exists()


@pytest.mark.parametrize(("mode", "size"), [("rw", "72m"), ("rw", "8m"), ("ro", "1m")])
def test_train_resumes_where_a_full_or_read_only_disk_stopped_it(tmp_path, disk, mode, size):
    recipe, data, whole = tmp_path / "tiny.toml", write_shards(tmp_path / "data"), tmp_path / "whole"
    recipe.write_text(RECIPE)
    more = ("--save-every", "1", "--picture-every", "0")
    command = [sys.executable, "-m", "sam_edge", *training(recipe, data, whole, *more)]
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    run = training(recipe, data, disk / "out", *more)
    kept = on_a_small_disk(tmp_path, mode, size, run, run if mode == "ro" else [*run, "--resume"])
    before, after = kept / "before" / "out", kept / "after" / "out"
    if mode == "ro":
        assert not before.exists()
    assert [path.name for path in checkpoints(before)] == (["step-00000001.safetensors"] if size == "72m" else [])
    for path in checkpoints(before):
        assert read_training_state(path).step == 1
    assert not list(before.rglob("*.partial"))
    assert losses(after) == losses(whole)
    ours, theirs = (load_file(each / "model.safetensors") for each in (after, whole))
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)
