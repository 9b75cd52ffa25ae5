"""Downloads from a loopback server: complete, resumed, refused, and never incomplete under the final name."""

from __future__ import annotations

import hashlib
import shutil
import socket
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pooch
import pytest
from rich.progress import Progress

from sam_edge.cli.app import run
from sam_edge.weights import cache as cache_module
from sam_edge.weights.cache import cache_folder, cached, find_by_sha256
from sam_edge.weights.catalogue import RELEASES, Release
from sam_edge.weights.download import download
from sam_edge_runtime.errors import CheckpointError, OutputError, UsageError

PART = "weights.pth.part"


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message


def test_a_release_is_downloaded_completely_and_only_once(server, cache, release):
    path = download(release, progress=False)
    assert path == cache / "weights.pth"
    assert path.read_bytes() == server.body
    assert [entry.name for entry in cache.iterdir()] == ["weights.pth"]
    assert download(release, progress=False) == path
    assert server.requested == [None]


def test_a_broken_download_is_resumed_without_fetching_bytes_twice(server, cache, release):
    server.drop_after = 900_000
    with pytest.raises(CheckpointError, match="broke after") as error:
        download(release, progress=False)
    kept = (cache / PART).stat().st_size
    assert 0 < kept <= 900_000
    assert f"resume after {kept:,} bytes" in one_line(error)
    assert not (cache / "weights.pth").exists()

    server.drop_after, server.sent = None, 0
    assert download(release, progress=False).read_bytes() == server.body
    assert server.requested == [None, f"bytes={kept}-"]
    assert server.sent == len(server.body) - kept
    assert not (cache / PART).exists()


def test_a_server_that_closes_early_without_a_length_is_noticed(server, cache, release):
    server.announces_length, server.drop_after = False, 700_000
    with pytest.raises(CheckpointError, match="ended after 700,000 of 1,500,000 bytes"):
        download(release, progress=False)
    assert (cache / PART).read_bytes() == server.body[:700_000]


def test_a_release_of_unknown_size_is_whole_by_its_hash(server, cache, release):
    unknown = replace(release, size=None)
    server.drop_after = 900_000
    with pytest.raises(CheckpointError, match=r"broke after [\d,]+ bytes"):
        download(unknown, progress=False)
    assert cached(unknown) is None
    server.drop_after = None
    assert download(unknown, progress=False).read_bytes() == server.body
    assert cached(unknown) == cache / "weights.pth"
    assert server.requested[1].startswith("bytes=")


def test_a_download_starts_over_if_the_server_ignores_ranges(server, cache, release):
    cache.mkdir()
    (cache / PART).write_bytes(b"x" * 1000)
    server.ranges = False
    assert download(release, progress=False).read_bytes() == server.body
    assert server.requested == ["bytes=1000-"]


def test_a_wrong_range_is_followed_by_a_request_for_the_whole_file(server, cache, release):
    cache.mkdir()
    (cache / PART).write_bytes(server.body[:1000])
    server.shift = 7
    assert download(release, progress=False).read_bytes() == server.body
    assert server.requested == ["bytes=1000-", None]


def test_a_part_that_is_too_long_is_discarded(server, cache, release):
    cache.mkdir()
    (cache / PART).write_bytes(b"x" * (len(server.body) + 1))
    assert download(release, progress=False).read_bytes() == server.body
    assert server.requested == [None]


@pytest.mark.parametrize("size", ["known", "unknown"])
def test_a_complete_part_needs_no_network(server, cache, release, size):
    cache.mkdir()
    (cache / PART).write_bytes(server.body)
    whole = release if size == "known" else replace(release, size=None)
    assert download(whole, progress=False).read_bytes() == server.body
    assert server.requested == []


def test_a_corrupt_file_in_the_cache_is_replaced(server, cache, release):
    cache.mkdir()
    (cache / "weights.pth").write_bytes(b"not these")
    assert download(release, progress=False).read_bytes() == server.body


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_wrong_hash_removes_the_file(server, cache, release, monkeypatch, links):
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse_links)
    server.body = b"\0" * len(server.body)
    with pytest.raises(CheckpointError) as error:
        download(release, progress=False)
    got = hashlib.sha256(server.body).hexdigest()
    assert f"expected sha256 {release.sha256}, got {got}" in one_line(error)
    assert list(cache.iterdir()) == []


def refuse_links(*_: object) -> None:
    raise OSError(95, "Operation not supported")


def test_downloads_work_on_a_file_system_without_links(server, cache, release, monkeypatch):
    monkeypatch.setattr(Path, "hardlink_to", refuse_links)
    assert download(release, progress=False).read_bytes() == server.body
    assert [entry.name for entry in cache.iterdir()] == ["weights.pth"]


def test_the_offline_error_says_how_to_download_by_hand(cache, release):
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        away = replace(release, url=f"http://127.0.0.1:{taken.getsockname()[1]}/weights.pth")
        with pytest.raises(CheckpointError) as error:
            download(away, progress=False)
    message = one_line(error)
    assert "Connection refused" in message
    for part in (away.url, str(cache / "weights.pth"), away.sha256):
        assert part in message
    assert not (cache / "weights.pth").exists()


def test_an_error_status_is_named(server, cache, release):
    server.status = 404
    with pytest.raises(CheckpointError, match="responded 404 Not Found") as error:
        download(release, progress=False)
    assert str(cache / "weights.pth") in one_line(error)


def test_another_file_is_refused_before_it_replaces_the_part(server, cache, release):
    cache.mkdir()
    (cache / PART).write_bytes(server.body[:1000])
    server.body, server.ranges = b"<html>please log in</html>", False
    with pytest.raises(CheckpointError, match="offers 26 bytes instead of 1,500,000"):
        download(release, progress=False)
    assert (cache / PART).stat().st_size == 1000


def test_a_server_that_sends_too_much_is_cut_off(server, cache, release):
    server.announces_length, server.body = False, server.body * 2
    with pytest.raises(CheckpointError, match="more than the 1,500,000 bytes"):
        download(release, progress=False)
    assert (cache / PART).stat().st_size <= release.size


def test_too_little_space_is_noticed_before_the_first_byte(server, cache, release, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1_499_999))
    with pytest.raises(OutputError, match="1,500,000 bytes are missing, 1,499,999 are free") as error:
        download(release, progress=False)
    assert "SAM_EDGE_CACHE" in one_line(error)
    assert server.requested == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full to run out of space")
def test_a_disk_that_fills_up_during_the_download_is_named(server, cache, release):
    cache.mkdir()
    (cache / PART).symlink_to("/dev/full")
    with pytest.raises(OutputError, match="is full") as error:
        download(release, progress=False)
    assert str(cache) in one_line(error)
    assert not (cache / "weights.pth").exists()


def test_a_cache_that_is_no_folder_is_refused(cache, release):
    cache.write_text("a file")
    with pytest.raises(OutputError, match="cannot write to") as error:
        download(release, progress=False)
    assert "SAM_EDGE_CACHE" in one_line(error)


def test_ctrl_c_keeps_the_bytes_that_have_arrived(server, cache, release, monkeypatch):
    calls = []

    def press_at_the_third(*_: object, **__: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "update", press_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            download(release, progress=False)
    kept = (cache / PART).read_bytes()
    assert kept
    assert kept == server.body[: len(kept)]
    assert [entry.name for entry in cache.iterdir()] == [PART]
    assert download(release, progress=False).read_bytes() == server.body
    assert server.requested[1] == f"bytes={len(kept)}-"


def test_ctrl_c_during_the_hash_keeps_the_file(server, cache, release, monkeypatch):
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pooch.core.hash_matches", press)
        with pytest.raises(KeyboardInterrupt):
            download(release, progress=False)
    assert (cache / PART).read_bytes() == server.body
    download(release, progress=False)
    assert server.requested == [None]


def test_the_progress_bar_is_on_stderr_or_off(server, cache, release, capsys):
    download(release, progress=False)
    assert capsys.readouterr() == ("", "")
    (cache / "weights.pth").unlink()
    download(release)
    out, err = capsys.readouterr()
    assert out == ""
    assert "vit_x" in err
    assert "1.5/1.5 MB" in err


def test_the_level_of_pooch_s_logger_is_restored(cache, release):
    before = pooch.get_logger().level
    download(release, progress=False)
    assert pooch.get_logger().level == before


def test_a_file_of_the_official_size_counts_as_cached(server, cache, release, monkeypatch):
    monkeypatch.setitem(RELEASES, "vit_x", release)
    assert cached(release) is None
    cache.mkdir()
    (cache / "weights.pth").write_bytes(server.body[:-1])
    assert cached(release) is None
    assert find_by_sha256(release.sha256) is None
    (cache / "weights.pth").write_bytes(server.body)
    assert cached(release) == find_by_sha256(release.sha256.upper()) == cache / "weights.pth"
    assert find_by_sha256("0" * 64) is None


def test_the_default_cache_folder_is_the_operating_system_s(monkeypatch):
    monkeypatch.setenv("SAM_EDGE_CACHE", " ")
    assert cache_folder() == Path(pooch.os_cache("sam-edge"))
    monkeypatch.setenv("SAM_EDGE_CACHE", "~/weights")
    assert cache_folder() == Path.home() / "weights"


def test_nothing_is_cached_without_pooch_and_without_a_folder(monkeypatch, release):
    monkeypatch.delenv("SAM_EDGE_CACHE", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(UsageError, match="pooch is not installed"):
        cache_module.cache_folder()
    assert cached(release) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "ftp://example.org/a.pth"}, "http or https"),
        ({"url": "file:///etc/passwd"}, "http or https"),
        ({"file": "../a.pth"}, "plain file name"),
        ({"file": ".."}, "plain file name"),
        ({"sha256": "abc"}, "not a sha256"),
        ({"size": 0}, "above zero"),
    ],
)
def test_a_malformed_release_is_refused_when_it_is_made(release: Release, change, words):
    with pytest.raises(UsageError, match=words):
        replace(release, **change)


@pytest.fixture
def command(release, monkeypatch):
    """`sam-edge download small`, with the release of the server in small's row; its address is another."""
    row = replace(release, variant="small", url="https://nowhere.invalid/weights.pth")
    monkeypatch.setitem(RELEASES, "small", row)
    return lambda *arguments: run(["download", "small", *map(str, arguments)])


def test_the_same_bytes_may_come_from_another_address(command, server, cache, capsys):
    assert command("--from", server.url) == 0
    assert (cache / "weights.pth").read_bytes() == server.body
    assert capsys.readouterr().out.strip() == str(cache / "weights.pth")


def test_the_same_bytes_may_come_from_a_file(command, server, cache, tmp_path):
    (tmp_path / "mine").write_bytes(server.body)
    assert command("--from", tmp_path / "mine") == 0
    assert [entry.name for entry in cache.iterdir()] == ["weights.pth"]
    assert (cache / "weights.pth").read_bytes() == server.body
    assert server.requested == []


def test_other_bytes_and_other_addresses_are_refused(command, server, cache, tmp_path, capsys):
    (tmp_path / "mine").write_bytes(server.body[:-1] + b"x")
    assert command("--from", tmp_path / "mine") == 2
    assert "is not the official file of small: expected sha256" in capsys.readouterr().err
    assert command("--from", tmp_path / "none") == 2
    assert "cannot read" in capsys.readouterr().err
    assert command("--from", "ftp://example.org/weights.pth") == 2
    assert "http" in capsys.readouterr().err
    server.body = server.body[:-1] + b"x"
    assert command("--from", server.url) == 2
    assert "was removed" in capsys.readouterr().err
    assert not cache.exists() or list(cache.iterdir()) == []
    assert run(["download", "clip_vit_b_32", "--from", str(tmp_path / "mine")]) == 2
    assert "leave out --from" in capsys.readouterr().err


def test_a_file_of_the_source_needs_no_download_and_no_address(release, server, cache, tmp_path, monkeypatch):
    row = replace(release, url="", in_source=True)
    monkeypatch.setattr(cache_module, "SOURCE_FOLDER", tmp_path / "weights")
    assert cached(row) is None
    with pytest.raises(UsageError, match=r"no public address yet: its file is weights/weights\.pth in the source"):
        download(row, progress=False)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "weights.pth").write_bytes(server.body)
    assert cached(row) == download(row, progress=False) == tmp_path / "weights" / "weights.pth"
    assert cached(replace(row, in_source=False, url=server.url)) is None
    with pytest.raises(UsageError, match="no http or https URL"):
        replace(row, in_source=False)
