"""Output folders: whole or not at all, and nothing of anybody else's is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sam_edge_runtime
from sam_edge_runtime.errors import OutputError
from sam_edge_runtime.system import folders
from sam_edge_runtime.system.folders import check_destination, others_than, recover, staged_folder

RUNTIME = str(Path(sam_edge_runtime.__file__).parents[1])


def foreign(folder: Path) -> tuple[str, ...] | None:
    """Ours are folders with a file `mark`, and of the files `mark` and `a`."""
    return others_than(folder, lambda name: name in {"mark", "a"}) if (folder / "mark").is_file() else None


def write(destination: Path, content: str, *, overwrite: bool = False) -> None:
    with staged_folder(destination, overwrite=overwrite, foreign=foreign) as folder:
        (folder / "mark").touch()
        (folder / "a").write_text(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["in one step", "in two steps"])
def swap(request, monkeypatch) -> str:
    """The system's exchange, and the two renames that replace it elsewhere."""
    if request.param == "in two steps":
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    return request.param


def test_an_output_is_replaced_only_when_told_to(tmp_path, swap):
    write(tmp_path / "b", "old")
    with pytest.raises(OutputError, match="add --overwrite"):
        write(tmp_path / "b", "new")
    assert (tmp_path / "b" / "a").read_text() == "old"
    write(tmp_path / "b", "new", overwrite=True)
    assert (tmp_path / "b" / "a").read_text() == "new"
    assert names(tmp_path) == ["b"]


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "work.txt").write_text("months")
    with pytest.raises(OutputError, match="was not made by sam-edge"):
        write(tmp_path / "b", "new", overwrite=True)
    assert names(tmp_path / "b") == ["work.txt"]


@pytest.mark.parametrize("place", ["notes.txt", "sub/notes.txt", "link"])
def test_a_file_of_somebody_else_in_an_output_is_named_and_kept(tmp_path, place):
    write(tmp_path / "b", "old")
    theirs = tmp_path / "b" / place
    theirs.parent.mkdir(exist_ok=True)
    if place == "link":
        theirs.symlink_to("/nowhere")
    else:
        theirs.write_text("months")
    with pytest.raises(OutputError, match=place):
        write(tmp_path / "b", "new", overwrite=True)
    assert (tmp_path / "b" / "a").read_text() == "old"
    assert theirs.is_symlink() or theirs.read_text() == "months"


def test_a_file_that_comes_while_the_folder_is_made_is_kept(tmp_path):
    write(tmp_path / "b", "old")
    staging = staged_folder(tmp_path / "b", overwrite=True, foreign=foreign)
    (staging.__enter__() / "mark").touch()
    (tmp_path / "b" / "notes.txt").write_text("written meanwhile")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        staging.__exit__(None, None, None)
    assert names(tmp_path / "b") == ["a", "mark", "notes.txt"]
    assert names(tmp_path) == ["b"]


def test_what_file_managers_leave_is_no_loss(tmp_path):
    write(tmp_path / "b", "old")
    for name in (".DS_Store", "._a", "Thumbs.db"):
        (tmp_path / "b" / name).touch()
    write(tmp_path / "b", "new", overwrite=True)
    assert names(tmp_path / "b") == ["a", "mark"]


def test_an_empty_folder_may_be_taken(tmp_path, swap):
    (tmp_path / "b").mkdir()
    write(tmp_path / "b", "new")
    assert names(tmp_path / "b") == ["a", "mark"]


def test_a_file_under_the_name_is_refused(tmp_path):
    (tmp_path / "b").write_text("a file")
    with pytest.raises(OutputError, match="was not made by sam-edge"):
        write(tmp_path / "b", "new", overwrite=True)
    assert (tmp_path / "b").read_text() == "a file"


def test_what_was_set_aside_comes_back(tmp_path):
    write(tmp_path / "b[1]", "old")
    (tmp_path / "b[1]").rename(tmp_path / ".b[1].0123456789ab.old")
    recover(tmp_path / "b[1]")
    assert (tmp_path / "b[1]" / "a").read_text() == "old"
    recover(tmp_path / "b[1]")  # nothing to do
    assert names(tmp_path) == ["b[1]"]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {runtime!r})
from sam_edge_runtime.system import folders
folders._exchange = lambda one, other: False
first = Path.rename
def rename(self, target):
    done = first(self, target)
    if str(target).endswith(".old"):
        os.kill(os.getpid(), signal.SIGKILL)
    return done
Path.rename = rename
def foreign(folder):
    return ()
with folders.staged_folder(Path({place!r}), overwrite=True, foreign=foreign) as folder:
    (folder / "mark").touch()
    (folder / "a").write_text("new")
    if {early!r}:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(place: Path, *, early: bool) -> None:
    program = KILLED.format(runtime=RUNTIME, place=str(place), early=early)
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    write(tmp_path / "b", "old")
    killed(tmp_path / "b", early=False)
    assert not (tmp_path / "b").exists()
    check_destination(tmp_path / "b", overwrite=True, foreign=foreign)
    assert (tmp_path / "b" / "a").read_text() == "old"


def test_a_killed_process_leaves_nothing_for_long(tmp_path):
    write(tmp_path / "b", "old")
    killed(tmp_path / "b", early=True)
    (left,) = (path for path in tmp_path.iterdir() if path.suffix == ".partial")
    write(tmp_path / "b", "newer", overwrite=True)
    assert left.exists()  # too young to tell from one that was just made
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    write(tmp_path / "b", "newest", overwrite=True)
    assert names(tmp_path) == ["b"]


def test_a_folder_that_is_being_filled_is_left_alone(tmp_path):
    with staged_folder(tmp_path / "b", overwrite=True, foreign=foreign) as folder:
        (folder / "mark").touch()
        long_ago = time.time() - 3600
        os.utime(folder, (long_ago, long_ago))
        write(tmp_path / "b", "of another process")
        assert (folder / "mark").is_file()
    assert names(tmp_path / "b") == ["mark"]


def test_two_names_that_share_a_beginning_are_two_names(tmp_path):
    (tmp_path / ".b.c.0123456789ab.partial").mkdir()  # of `b.c`, and so nothing of `b`'s
    os.utime(tmp_path / ".b.c.0123456789ab.partial", (0, 0))
    write(tmp_path / "b", "x")
    assert (tmp_path / ".b.c.0123456789ab.partial").exists()
