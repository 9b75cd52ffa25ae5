"""Writes are atomic under interruptions, on full and read-only disks, and where the destination exists."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import sam_edge_runtime
from sam_edge_runtime.errors import BundleError, OutputError, SamEdgeError
from sam_edge_runtime.system import files, folders
from sam_edge_runtime.system.files import (
    check_file,
    replace_durably,
    require_space,
    sha256_of,
    write_file,
    write_files,
)
from sam_edge_runtime.system.folders import check_destination, staged_folder

PACKAGES = str(Path(sam_edge_runtime.__file__).parents[1])
TOO_LONG = "a" * 300  # no file system takes a name of more than 255 bytes


def foreign(folder: Path) -> tuple[str, ...] | None:
    """A folder with a file `ours` is ours, with all that it holds."""
    return () if (folder / "ours").is_file() else None


def make(destination: Path, content: str = "new", *, overwrite: bool = False) -> None:
    with staged_folder(destination, overwrite=overwrite, foreign=foreign) as staging:
        (staging / "ours").write_text(content)


def contents(folder: Path) -> dict[str, str | None]:
    """Everything below `folder`, without links: the text of a file, None for a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


def refused(action: Callable[[], object]) -> str:
    """The error of `action`, which must be one line."""
    with pytest.raises(OutputError) as caught:
        action()
    line = str(caught.value)
    assert "\n" not in line
    return line


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


# A folder -----------------------------------------------------------------------------------------------------------


def test_a_staged_folder_is_invisible_until_it_is_complete(tmp_path):
    destination = tmp_path / "deep" / "below" / "bundle"
    with staged_folder(destination, overwrite=False, foreign=foreign) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "ours").write_text("new")
        assert not destination.exists()
        assert staging.parent == destination.parent  # a rename, not a copy from another disk
        assert staging.name.startswith(".bundle.")
        assert staging.name.endswith(".partial")
    assert contents(tmp_path / "deep") == {
        "below": None,
        "below/bundle": None,
        "below/bundle/sub": None,
        "below/bundle/sub/ours": "new",
    }
    assert stat.S_IMODE(destination.stat().st_mode) == 0o755


def test_a_relative_destination_is_relative_to_the_folder_at_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with staged_folder(Path("bundle"), overwrite=False, foreign=foreign) as staging:
        (staging / "ours").write_text("new")
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert contents(tmp_path) == {"elsewhere": None, "bundle": None, "bundle/ours": "new"}


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), BundleError("no bundle")])
@pytest.mark.parametrize("exists", [True, False], ids=["over an older one", "fresh"])
def test_an_interrupted_block_leaves_the_destination_as_it_was(tmp_path, error, exists):
    if exists:
        make(tmp_path / "bundle", "old")
    with pytest.raises(type(error)) as caught:  # noqa: PT012, SIM117 - the block is what is tested
        with staged_folder(tmp_path / "bundle", overwrite=True, foreign=foreign) as staging:
            (staging / "ours").write_text("half")
            raise error
    assert caught.value is error
    assert contents(tmp_path) == ({"bundle": None, "bundle/ours": "old"} if exists else {})


@pytest.mark.parametrize("error", [KeyboardInterrupt(), PermissionError(13, "Permission denied")])
def test_an_interruption_between_the_two_renames_puts_the_old_folder_back(tmp_path, monkeypatch, error):
    make(tmp_path / "bundle", "old")
    rename = Path.rename

    def interrupted(self, target):
        if self.suffix == ".partial":
            raise error
        return rename(self, target)

    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        make(tmp_path / "bundle", overwrite=True)
    assert contents(tmp_path) == {"bundle": None, "bundle/ours": "old"}


def test_overwriting_replaces_the_whole_folder(tmp_path):
    make(tmp_path / "bundle", "old")
    (tmp_path / "bundle" / "more").write_text("old")
    make(tmp_path / "bundle", overwrite=True)
    assert contents(tmp_path) == {"bundle": None, "bundle/ours": "new"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_empty_folder_is_filled(tmp_path, overwrite):
    (tmp_path / "bundle").mkdir()
    make(tmp_path / "bundle", overwrite=overwrite)
    assert contents(tmp_path) == {"bundle": None, "bundle/ours": "new"}


def test_of_a_link_the_folder_that_it_leads_to_is_replaced(tmp_path):
    make(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    assert "--overwrite" in refused(lambda: make(tmp_path / "link"))
    make(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").readlink() == Path("real")
    assert contents(tmp_path) == {"real": None, "real/ours": "new"}
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}


def _folder_of_ours(place: Path) -> None:
    make(place, "old")


def _foreign_folder(place: Path) -> None:
    place.mkdir()
    (place / "thesis.txt").write_text("years")


def _file(place: Path) -> None:
    place.write_text("a file")


def _link_to_a_file(place: Path) -> None:
    (place.parent / "file").write_text("a file")
    place.symlink_to("file")


def _dangling_link(place: Path) -> None:
    place.symlink_to("nowhere")


def _link_to_itself(place: Path) -> None:
    place.symlink_to(place.name)


TAKEN = [
    (_folder_of_ours, False, "exists: add --overwrite to replace it"),
    *(
        (kind, overwrite, "exists and was not made by sam-edge: choose another place")
        for kind in (_foreign_folder, _file, _link_to_a_file, _dangling_link, _link_to_itself)
        for overwrite in (False, True)
    ),
]


@pytest.mark.parametrize(("kind", "overwrite", "reason"), TAKEN)
def test_a_destination_that_exists_is_refused_before_the_work(tmp_path, kind, overwrite, reason):
    place = tmp_path / "bundle"
    kind(place)
    before, names = contents(tmp_path), set(tmp_path.iterdir())
    entered = []

    def attempt():
        with staged_folder(place, overwrite=overwrite, foreign=foreign):
            entered.append(True)

    for action in (attempt, lambda: check_destination(place, overwrite=overwrite, foreign=foreign)):
        assert refused(action) == f"{place} {reason}"
    assert not entered
    assert (contents(tmp_path), set(tmp_path.iterdir())) == (before, names)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_appears_at_the_destination_during_the_work_is_not_replaced(tmp_path, overwrite):
    place = tmp_path / "bundle"

    def attempt():
        with staged_folder(place, overwrite=overwrite, foreign=foreign) as staging:
            (staging / "ours").write_text("new")
            _foreign_folder(place)

    assert "was not made by sam-edge" in refused(attempt)
    assert contents(tmp_path) == {"bundle": None, "bundle/thesis.txt": "years"}


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("a file")
    return folder / "file" / "bundle"


def _below_a_link_to_itself(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop" / "bundle"


IMPOSSIBLE = [_below_a_file, _below_a_link_to_itself, lambda folder: folder / TOO_LONG, lambda folder: Path("/proc/x")]


@pytest.mark.parametrize("kind", IMPOSSIBLE)
@pytest.mark.parametrize("job", [make, lambda place: write_file(place, b"new", overwrite=False)], ids=["make", "write"])
def test_the_error_of_an_impossible_destination_is_one_line(tmp_path, kind, job):
    place = kind(tmp_path)
    before, names = contents(tmp_path), set(tmp_path.iterdir())
    line = refused(lambda: job(place))
    assert line.startswith(f"cannot write {place} (")
    assert line.endswith("): choose another place")
    assert (contents(tmp_path), set(tmp_path.iterdir())) == (before, names)


@pytest.mark.parametrize(("mask", "folder", "file"), [(0o077, 0o700, 0o600), (0o002, 0o775, 0o664)])
def test_results_follow_the_umask(tmp_path, mask, folder, file):
    with umask(mask):
        make(tmp_path / "bundle")
        write_file(tmp_path / "mask.png", b"new", overwrite=False)
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == folder
    assert stat.S_IMODE((tmp_path / "mask.png").stat().st_mode) == file


# A file -------------------------------------------------------------------------------------------------------------


def test_missing_folders_of_a_file_are_made(tmp_path):
    write_file(tmp_path / "deep" / "mask.png", b"new", overwrite=False)
    assert contents(tmp_path) == {"deep": None, "deep/mask.png": "new"}


def test_a_file_is_replaced_only_with_overwrite(tmp_path):
    place = tmp_path / "mask.png"
    place.write_text("old")
    assert refused(lambda: write_file(place, b"new", overwrite=False)) == (
        f"{place} exists: add --overwrite to replace it"
    )
    assert contents(tmp_path) == {"mask.png": "old"}
    write_file(place, b"new", overwrite=True)
    assert contents(tmp_path) == {"mask.png": "new"}


def test_a_reader_of_the_old_file_still_reads_all_of_it(tmp_path):
    place = tmp_path / "mask.png"
    place.write_text("old")
    with place.open() as reader:
        write_file(place, b"new", overwrite=True)
        assert reader.read() == "old"
    assert place.read_text() == "new"


@pytest.mark.parametrize("make_it", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_only_a_file_is_replaced_by_a_file(tmp_path, make_it):
    place = tmp_path / "mask.png"
    make_it(place)
    kind = stat.S_IFMT(place.stat().st_mode)
    for overwrite in (False, True):
        assert refused(lambda overwrite=overwrite: write_file(place, b"new", overwrite=overwrite)).endswith(
            "name a file"
        )
    assert stat.S_IFMT(place.stat().st_mode) == kind
    assert set(tmp_path.iterdir()) == {place}


@pytest.mark.parametrize("exists", [True, False], ids=["over an older one", "fresh"])
def test_an_interrupted_write_leaves_the_file_as_it_was(tmp_path, monkeypatch, exists):
    place = tmp_path / "mask.png"
    if exists:
        place.write_text("old")
    write = Path.write_bytes

    def interrupted(self, content):
        write(self, content[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(place, b"new", overwrite=True)
    assert contents(tmp_path) == ({"mask.png": "old"} if exists else {})


@pytest.mark.parametrize("mode", ["file", "pipe", "folder"])
def test_check_file_refuses_before_the_work(tmp_path, mode):
    place = tmp_path / "mask.png"
    check_file(place, overwrite=False)
    {"file": Path.touch, "pipe": os.mkfifo, "folder": Path.mkdir}[mode](place)
    line = refused(lambda: check_file(place, overwrite=False))
    assert line.endswith("add --overwrite to replace it" if mode == "file" else "name a file")
    if mode == "file":
        check_file(place, overwrite=True)


def test_a_name_that_just_fits_is_written(tmp_path):
    write_file(tmp_path / ("a" * 255), b"new", overwrite=False)
    assert contents(tmp_path) == {"a" * 255: "new"}


# Several files ------------------------------------------------------------------------------------------------------


def test_missing_folders_of_several_files_are_made(tmp_path):
    write_files({tmp_path / "a" / "1": b"one", tmp_path / "a" / "b" / "2": b"two"}, overwrite=False)
    assert contents(tmp_path) == {"a": None, "a/1": "one", "a/b": None, "a/b/2": "two"}
    write_files({tmp_path / "a" / "1": b"new", tmp_path / "3": b"three"}, overwrite=True)
    assert contents(tmp_path) == {"a": None, "a/1": "new", "a/b": None, "a/b/2": "two", "3": "three"}


def test_if_one_of_several_files_exists_none_is_written(tmp_path):
    (tmp_path / "2").write_text("old")
    line = refused(lambda: write_files({tmp_path / "1": b"one", tmp_path / "2": b"two"}, overwrite=False))
    assert line == f"{tmp_path / '2'} exists: add --overwrite to replace it"
    assert contents(tmp_path) == {"2": "old"}


def test_if_one_of_several_names_is_impossible_none_is_written(tmp_path):
    folder = tmp_path / "new"
    line = refused(lambda: write_files({folder / "1": b"one", folder / TOO_LONG: b"two"}, overwrite=True))
    assert line.startswith(f"cannot write {folder / TOO_LONG} (")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_if_one_of_several_files_cannot_be_written_none_is(tmp_path, monkeypatch, error):
    (tmp_path / "1").write_text("old")
    write, calls = Path.write_bytes, []

    def full(self, content):
        calls.append(content)
        write(self, content[:1])
        if content == b"two":
            raise error

    monkeypatch.setattr(Path, "write_bytes", full)
    wanted = {tmp_path / "1": b"one", tmp_path / "new" / "deep" / "2": b"two", tmp_path / "3": b"three"}
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        write_files(wanted, overwrite=True)
    if isinstance(error, OSError):
        assert str(caught.value).startswith(f"no space to write {tmp_path / 'new' / 'deep' / '2'} (")
    assert calls == [b"one", b"two"]
    assert contents(tmp_path) == {"1": "old"}


def test_what_killed_processes_left_is_removed_once_it_is_old(tmp_path, monkeypatch):
    old, new, mine = (tmp_path / name for name in (".0123456789ab.partial", ".ba9876543210.partial", ".notes.partial"))
    folder = tmp_path / ".aaaaaaaaaaaa.partial"
    folder.mkdir()
    for path in (old, new, mine):
        path.write_text("half")
    for path in (old, mine, folder):
        os.utime(path, (0, 0))
    write_file(tmp_path / "result", b"whole", overwrite=False)
    assert {path.name for path in tmp_path.iterdir()} == {"result", new.name, mine.name, folder.name}


# No space, no permission ---------------------------------------------------------------------------------------------

# Runs in a process of its own: writes a megabyte over an older result, prints the error and the files that remain.
WRITE_A_MEGABYTE = """
import json, sys
from pathlib import Path
from sam_edge_runtime.errors import OutputError
from sam_edge_runtime.system.files import write_file
from sam_edge_runtime.system.folders import staged_folder

job, place, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
line = None
try:
    if job == "folder":
        with staged_folder(place / "result", overwrite=True, foreign=lambda folder: ()) as staging:
            (staging / "weights").write_bytes(bytes(1 << 20))
    else:
        write_file(place / "result", bytes(1 << 20), overwrite=True)
except OutputError as error:
    line = str(error)
print(json.dumps([line, {path.relative_to(place).as_posix(): path.stat().st_size * path.is_file()
                         for path in place.rglob("*")}]))
"""
# A file system in a mount namespace of its own, which ends with the process.
MOUNT = """
mount -t tmpfs -o size=64k tmpfs "$1" || exit 77
case "$2" in
  folder) mkdir "$1/result" && echo old > "$1/result/weights" ;;
  file) echo old > "$1/result" ;;
esac
if [ "$3" = ro ]; then mount -o remount,ro "$1" || exit 77; fi
exec "$4" -c "$5" "$2" "$1" 0
"""
LEFT = {"folder": {"result": 0, "result/weights": 4}, "file": {"result": 4}}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": PACKAGES}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("job", ["folder", "file"])
@pytest.mark.parametrize(
    ("mode", "start", "reason"),
    [("rw", "no space to write", "free some space"), ("ro", "cannot write", "Read-only file system")],
)
def test_on_a_full_or_read_only_disk_the_old_result_stays(tmp_path, job, mode, start, reason):
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no `unshare` to mount a small disk")
    done = run(
        *(unshare, "--map-root-user", "--mount", "/bin/sh", "-c", MOUNT, "sh"),
        *(str(tmp_path), job, mode, sys.executable, WRITE_A_MEGABYTE),
    )
    if done.returncode and not done.stdout and ("unshare" in done.stderr or done.returncode == 77):
        pytest.skip(f"this machine does not allow to mount a small disk: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    line, left = json.loads(done.stdout)
    assert line.startswith(f"{start} {tmp_path / 'result'} (")
    assert reason in line
    assert "\n" not in line
    assert left == LEFT[job]


@pytest.mark.parametrize("job", ["folder", "file"])
def test_beyond_the_file_size_limit_the_old_result_stays(tmp_path, job):
    pytest.importorskip("resource", reason="this system has no file size limit")
    old = tmp_path / {"folder": "result/weights", "file": "result"}[job]
    old.parent.mkdir(exist_ok=True)
    old.write_text("old\n")
    done = run(sys.executable, "-c", WRITE_A_MEGABYTE, job, str(tmp_path), "4096")
    assert done.returncode == 0, done.stderr
    line, left = json.loads(done.stdout)
    assert line == f"no space to write {tmp_path / 'result'} (File too large): free some space or choose another place"
    assert left == LEFT[job]


@pytest.mark.parametrize("job", [make, lambda place: write_file(place, b"new", overwrite=False)], ids=["make", "write"])
def test_a_folder_without_write_permission_is_named(tmp_path, job):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    try:
        if os.access(closed, os.W_OK):
            pytest.skip("permissions do not bind this user (root); the read-only disk is tested instead")
        assert "Permission denied" in refused(lambda: job(closed / "result"))
        assert contents(closed) == {}
    finally:
        closed.chmod(0o755)


def test_require_space_compares_with_the_free_space(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    folders = []

    def disk_usage(folder):
        folders.append(folder)
        return usage(10**9, 0, 25_000_000)

    monkeypatch.setattr(files.shutil, "disk_usage", disk_usage)
    require_space(tmp_path / "not" / "yet" / "there", 25_000_000)
    line = refused(lambda: require_space(tmp_path / "not" / "yet" / "there", 25_000_001))
    assert folders == [tmp_path, tmp_path]
    assert line.startswith(f"no space for {tmp_path / 'not' / 'yet' / 'there'}: ")
    assert "it needs about 25 MB and 25 MB are free" in line


def test_require_space_reads_the_real_disk(tmp_path):
    require_space(tmp_path / "bundle", 1)
    assert f"it needs about {2**60 / 1e6:.0f} MB" in refused(lambda: require_space(tmp_path / "bundle", 2**60))


def test_require_space_names_an_impossible_path_in_one_line(tmp_path):
    assert TOO_LONG in refused(lambda: require_space(tmp_path / TOO_LONG, 1))


# Hashes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 19])
def test_a_hash_in_chunks_equals_one_of_the_whole_file(tmp_path, size):
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_output_errors_are_sam_edge_errors():
    assert issubclass(OutputError, SamEdgeError)
    assert not issubclass(OutputError, OSError)


class TestDurableReplacement:
    def test_the_content_is_flushed_before_it_has_the_name_and_the_name_after(self, tmp_path, monkeypatch):
        steps = []
        fsync, replace = os.fsync, Path.replace

        def flushed(handle: int) -> None:
            steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
            fsync(handle)

        def renamed(path: Path, target: Path) -> Path:
            steps.append("rename")
            return replace(path, target)

        monkeypatch.setattr(os, "fsync", flushed)
        monkeypatch.setattr(Path, "replace", renamed)
        (tmp_path / "file").write_bytes(b"old")
        replace_durably(tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"new"
        assert steps == ["file", "rename", *(["folder"] if sys.platform != "win32" else [])]
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_an_error_leaves_the_old_content(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_bytes(b"old")

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="no space to write"):
            replace_durably(tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        with pytest.raises(OutputError, match="cannot write"):
            replace_durably(tmp_path / "nowhere" / "file", b"new")
