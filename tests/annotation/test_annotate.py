"""`sam-edge annotate` with several processes, several hosts, and a SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam_edge.annotation.annotate import AnnotateJob, annotate, place_among_hosts
from sam_edge.cli.app import run
from sam_edge_runtime.errors import DataError, OutputError, UsageError
from tests.data.builders import encoded, pairs, picture, write_folder, write_tar
from tests.runtime.standin import write_onnx_bundle

LENIENT = ["--pred-iou-thresh", "0", "--stability-score-thresh", "0"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("standin") / "bundle"
    write_onnx_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    return write_tar(tmp_path_factory.mktemp("in") / "in.tar", pairs(12))


def arguments(shard: Path, bundle: Path, out: Path, *more: str) -> list[str]:
    asked = ["annotate", str(shard), "--bundle", str(bundle), "--out", str(out), "--points-per-side", "16", *LENIENT]
    return [*asked, "--records-per-shard", "4", *more]


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


@pytest.fixture(scope="module")
def undisturbed(bundle, shard, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "shards"
    assert run(arguments(shard, bundle, out, "--processes", "2")) == 0
    return shards(out)


def test_killed_and_run_again_it_gives_the_same_shards(bundle, shard, undisturbed, tmp_path, capsys):
    out = tmp_path / "shards"
    command = [sys.executable, "-m", "sam_edge", *arguments(shard, bundle, out)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob(".work/*/*.json")) and not list(out.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(shards(out)) < 3
    assert run(arguments(shard, bundle, out)) == 0
    assert "12 photos annotated, 0 left out" in capsys.readouterr().out
    assert shards(out) == undisturbed
    assert run(arguments(shard, bundle, out)) == 0  # nothing is left to do
    assert shards(out) == undisturbed


def test_hosts_share_the_pieces(bundle, shard, undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "shards"
    counts = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        settings = {"points_per_side": 16, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
        job = AnnotateJob(str(shard), out, bundle, settings=settings, records=4)
        counts.append(annotate(job).photos)
    assert counts == [8, 4]
    assert shards(out) == undisturbed


def test_folders_of_another_run_or_with_other_files_are_refused(bundle, shard, tmp_path):
    out = tmp_path / "shards"
    out.mkdir()
    (out / "annotation.json").write_text('{"format": "sam-edge-annotations", "model": "vit_h"}')
    with pytest.raises(OutputError, match="another run, whose model is 'vit_h'"):
        annotate(AnnotateJob(str(shard), out, bundle))
    with pytest.raises(OutputError, match="holds no annotations of sam-edge"):
        annotate(AnnotateJob(str(shard), shard.parent, bundle))


def test_a_run_that_was_killed_at_its_first_file_goes_on(bundle, shard, undisturbed, tmp_path):
    out = tmp_path / "shards"
    out.mkdir()
    (out / ".0123456789ab.partial").write_bytes(b'{"format":')
    assert run(arguments(shard, bundle, out)) == 0
    assert shards(out) == undisturbed
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".notes.partial").touch()  # nobody else's hidden file is taken for ours
    with pytest.raises(OutputError, match="holds no annotations of sam-edge"):
        annotate(AnnotateJob(str(shard), tmp_path / "other", bundle))


def test_a_place_that_cannot_be_written_is_named_with_the_reason(bundle, shard, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*file/out/annotation.json \(Not a directory\)"):
        annotate(AnnotateJob(str(shard), tmp_path / "file" / "out", bundle))


def test_existing_masks_need_masks(bundle, tmp_path):
    photos = write_folder(tmp_path / "photos", [("a.jpg", encoded(picture(0)))])
    with pytest.raises(DataError, match="photos without masks"):
        annotate(AnnotateJob(str(photos), tmp_path / "out", bundle, existing=True))


def test_no_usable_photo_is_an_error(bundle, tmp_path, capsys):
    photos = write_folder(tmp_path / "photos", [("a.jpg", b"no picture")])
    assert run(arguments(photos, bundle, tmp_path / "out")) == 2
    assert "none of the 1 photos could be used" in capsys.readouterr().err


def test_a_missing_bundle_leaves_nothing_behind(shard, tmp_path, capsys):
    assert run(arguments(shard, tmp_path / "nowhere", tmp_path / "out")) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_error_of_a_process_is_one_line(shard, tmp_path, capsys):
    asked = ["annotate", str(shard), "--checkpoint", str(tmp_path / "none.pth"), "--out", str(tmp_path / "out")]
    assert run(asked) == 2
    assert [line for line in capsys.readouterr().err.splitlines() if "none.pth" in line and "error: " in line]


@pytest.mark.parametrize(
    ("rank", "world", "reason"), [("x", "2", "are not numbers"), ("2", "2", "do not fit"), ("0", "0", "do not fit")]
)
def test_bad_rank_and_world_size_are_refused(rank, world, reason, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(UsageError, match=reason):
        place_among_hosts()


@pytest.mark.parametrize("changes", [{"processes": 0}, {"records": 0}, {"settings": {"points_per_side": 0}}])
def test_numbers_out_of_range_are_refused(changes, tmp_path):
    with pytest.raises(UsageError):
        AnnotateJob("photos", tmp_path, **changes)
