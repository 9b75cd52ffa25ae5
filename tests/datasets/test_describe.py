"""Descriptions of shards, folders and JSON files: counted right, in processes, resumed, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sam_edge.cli.app import run
from sam_edge.datasets import describe as describe_module
from sam_edge.datasets.describe import DescribeJob, describe
from sam_edge.datasets.survey import survey
from sam_edge_runtime.errors import DataError, OutputError, UsageError
from tests.data.builders import encoded, pair, pairs, picture, record, rectangles, write_folder, write_tar
from tests.datasets.builders import coco_document, write_coco


def figures(description, which: int = 0) -> dict:
    """Everything that was counted, without names of files."""
    found = description.statistics[which].to_json()
    found["relative_size"] = round(found["relative_size"], 9)
    found["concavity"] = round(found["concavity"], 9)
    return {name: value for name, value in found.items() if name != "named"}


def test_a_tar_a_folder_and_coco_of_the_same_masks_have_the_same_figures(tmp_path):
    tar = write_tar(tmp_path / "a.tar", pairs(6))
    folder = write_folder(tmp_path / "folder", pairs(6))
    rle, uncompressed = (write_coco(tmp_path / form / "instances.json", 6, form) for form in ("rle", "uncompressed"))
    names = tuple(map(str, (tar, folder, rle, uncompressed)))
    found = describe(DescribeJob(names))
    assert (found.statistics[0].photos, found.statistics[0].masks) == (6, 18)
    assert figures(found, 0) == figures(found, 1) == figures(found, 2) == figures(found, 3)
    sizes = np.concatenate([np.sqrt(rectangles(seed).mean(axis=(1, 2))) for seed in range(6)])
    assert found.statistics[0].relative_size == pytest.approx(sizes.sum())


def test_photos_are_not_read_unless_asked_for(tmp_path):
    files = [(name, b"no photo" if name.endswith(".jpg") else content) for name, content in pairs(4)]
    tar = str(write_tar(tmp_path / "a.tar", files))
    assert describe(DescribeJob((tar,))).statistics[0].broken == 0
    with pytest.raises(DataError, match="none of the 4 records"):
        describe(DescribeJob((tar,), decode_photos=True))


def test_broken_records_are_counted_and_named(tmp_path):
    files = pairs(5)
    files[3] = (files[3][0], files[3][1][:40])  # a damaged JSON
    del files[7]  # a missing one
    found = describe(DescribeJob((str(write_tar(tmp_path / "a.tar", files)),)))
    (statistics,) = found.statistics
    assert (statistics.photos, statistics.broken) == (3, 2)
    assert [skip.key for skip in statistics.named.values()] == ["sa_1", "sa_3"]
    assert ["truncated" in found.broken()[0], "missing" in found.broken()[1]] == [True, True]


def test_photos_without_annotations_have_sizes(tmp_path):
    photos = [(f"{seed}.png", encoded(picture(seed, (20, 30 + seed)), "PNG")) for seed in range(3)]
    found = describe(DescribeJob((str(write_folder(tmp_path / "photos", photos)),)))
    assert found.statistics[0].resolutions == {(20, 30): 1, (20, 31): 1, (20, 32): 1}
    assert [name for name, _ in found.rows()][-1].startswith("most frequent")


def test_crowds_are_counted(tmp_path):
    document = coco_document(1)
    document["annotations"][0]["iscrowd"] = 1
    (tmp_path / "a.json").write_text(json.dumps(document))
    found = describe(DescribeJob((str(tmp_path / "a.json"),)))
    assert (found.statistics[0].masks, found.statistics[0].crowds) == (3, 1)


def test_records_of_the_stored_frame_are_turned(tmp_path):
    """A photo that its EXIF turns by a quarter: the centre of a mask at the stored top left is at the upright right."""
    from tests.data.builders import exif_of

    masks = np.zeros((1, 30, 40), bool)
    masks[0, :6, :6] = True
    document = record(masks)
    document["image"]["orientation"] = "stored"
    content = encoded(picture(0), exif=exif_of(6))
    folder = write_folder(tmp_path / "a", [("a.jpg", content), ("a.json", json.dumps(document).encode())])
    (statistics,) = describe(DescribeJob((str(folder),))).statistics
    ((row, column),) = np.argwhere(statistics.centres)
    assert statistics.resolutions == {(40, 30): 1}
    assert (row < 8, column > 40) == (True, True)


class TestResumption:
    def test_a_killed_run_goes_on_and_finds_the_same(self, tmp_path, monkeypatch):
        tar, out = str(write_tar(tmp_path / "a.tar", pairs(7))), tmp_path / "out"
        whole = describe(DescribeJob((tar,), tmp_path / "whole", records=2))
        surveyed: list[int] = []

        def stopping(part, told=None):
            if len(surveyed) == 2:
                raise KeyboardInterrupt
            surveyed.append(part.first)
            return survey(part)

        monkeypatch.setattr(describe_module, "survey", stopping)
        with pytest.raises(KeyboardInterrupt):
            describe(DescribeJob((tar,), out, records=2))
        assert sorted(path.name for path in (out / ".parts").iterdir()) == [
            "00000000.json",
            "00000001.json",
            "settings.json",
        ]
        (out / ".parts" / "00000001.json").write_text('{"photos": 1')  # damaged: read again
        monkeypatch.setattr(
            describe_module, "survey", lambda part, told=None: surveyed.append(part.first) or survey(part)
        )
        found = describe(DescribeJob((tar,), out, records=2))
        assert surveyed == [0, 2, 2, 4, 6]
        assert figures(found) == figures(whole)
        assert not (out / ".parts").exists()
        assert (out / "report.json").read_bytes() == (tmp_path / "whole" / "report.json").read_bytes()

    def test_other_data_are_refused(self, tmp_path, monkeypatch):
        first, second = (str(write_tar(tmp_path / f"{name}.tar", pairs(2))) for name in "ab")
        out = tmp_path / "out"
        monkeypatch.setattr(describe_module, "survey", lambda part, told=None: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            describe(DescribeJob((first,), out))
        monkeypatch.setattr(describe_module, "survey", survey)
        with pytest.raises(OutputError, match="other data"):
            describe(DescribeJob((second,), out))
        assert describe(DescribeJob((second,), out, overwrite=True)).statistics[0].photos == 2

    def test_a_finished_page_is_replaced_only_if_asked(self, tmp_path):
        tar, out = str(write_tar(tmp_path / "a.tar", pairs(2))), tmp_path / "out"
        describe(DescribeJob((tar,), out))
        with pytest.raises(OutputError, match="--overwrite"):
            describe(DescribeJob((tar,), out))
        describe(DescribeJob((tar,), out, overwrite=True))
        (out / "mine.txt").touch()
        with pytest.raises(OutputError, match=r"mine\.txt"):
            describe(DescribeJob((tar,), out, overwrite=True))


@pytest.mark.slow
def test_several_processes_find_the_same(tmp_path):
    tars = tuple(str(write_tar(tmp_path / f"{n}.tar", pairs(5, start=5 * n))) for n in range(2))
    told: list[tuple[int, int]] = []
    one = describe(DescribeJob(tars, records=2))
    two = describe(DescribeJob(tars, jobs=2, records=2), lambda done, total: told.append((done, total)))
    assert [figures(two, n) for n in range(2)] == [figures(one, n) for n in range(2)]
    assert told[-1] == (10, 10)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_and_run_again_it_finds_the_same(tmp_path):
    tars = [str(write_tar(tmp_path / f"{n:02d}.tar", pairs(40, start=40 * n))) for n in range(30)]
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sam_edge", "data", "describe", *tars, "--jobs", "2", "--out", str(out)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list(out.glob(".parts/0*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob(".parts/0*.json")}
    assert 3 <= len(kept) < 30
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    whole = describe(DescribeJob(tuple(tars), tmp_path / "whole"))
    report = json.loads((out / "report.json").read_text())
    assert report == json.loads((tmp_path / "whole" / "report.json").read_text())
    assert sum(each["photos"] for each in report["sources"]) == sum(each.photos for each in whole.statistics) == 1200


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The folder of a description, with signs of HTML and of mathematics in the name of a source and of a record."""
    folder = tmp_path_factory.mktemp("page")
    files = [*pairs(3), ("<script>$_{x.json", b"{"), *pair("z", 9)]
    tar = write_tar(folder / "<script>$_{x.tar", files)
    describe(DescribeJob((str(tar), str(write_tar(folder / "b.tar", pairs(2)))), folder / "out"))
    return folder / "out"


def test_the_page_has_plots_and_no_script(page):
    text = (page / "report.html").read_text()
    assert text.count("data:image/png;base64,") == 5
    assert "<script" not in text
    assert "&lt;script" in text


def test_the_figures_are_json_without_paths(page):
    report = json.loads((page / "report.json").read_text())
    assert report["format"] == "sam-edge-description"
    assert [(each["photos"], each["broken"]) for each in report["sources"]] == [(4, 1), (2, 0)]
    assert str(page.parent) not in (page / "report.json").read_text() + (page / "report.html").read_text()


def test_the_command_prints_a_table_or_json(tmp_path, capsys):
    tar = str(write_tar(tmp_path / "a.tar", pairs(3)))
    assert run(["data", "describe", tar, "--jobs", "1"]) == 0
    captured = capsys.readouterr().out
    assert "masks of a photo: mean" in captured
    assert "a.tar" in captured
    assert run(["data", "describe", tar, "--jobs", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sources"][0]["masks"] == 9


@pytest.mark.parametrize(
    ("change", "words"), [({"sources": ()}, "nothing"), ({"sources": ("a", "a")}, "twice"), ({"jobs": 0}, "--jobs 0")]
)
def test_jobs_that_make_no_sense_are_refused(change, words):
    with pytest.raises(UsageError, match=words):
        DescribeJob(**{"sources": ("a",), **change})
