"""Paths and patterns, records by number and in order, and refusals."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import sys

import numpy as np
import pytest

from sam_edge.data import tar_index as tar_index_module
from sam_edge.data.shards import RawRecord, TarShard
from sam_edge.data.skips import Skip
from sam_edge.data.sources import open_source
from sam_edge_runtime.errors import DataError, UsageError
from tests.data.builders import encoded, pair, pairs, picture, write_folder, write_tar


def read_all(source, **options) -> dict[str, RawRecord]:
    records = [source.read(number, **options) for number in range(len(source))]
    return {record.key: record for record in records}


def streamed(source, **options) -> list[RawRecord | Skip]:
    return [record for shard in source.shards for record in shard.stream(**options)]


def expected(files) -> dict[str, list[bytes | None]]:
    """Photo and JSON by key."""
    result: dict[str, list[bytes | None]] = {}
    for name, content in files:
        key, _, ending = name.removeprefix("./").rpartition(".")
        result.setdefault(key, [None, None])[ending == "json"] = content
    return result


# Paths --------------------------------------------------------------------------------------------------------------


def test_a_tar_gives_its_records_by_number_and_in_order(tmp_path):
    path = write_tar(tmp_path / "sa_000000.tar", pairs(5))
    source = open_source(path)
    assert (len(source), source.sizes, source.annotated) == (5, (5,), True)
    assert [source.record_name(number) for number in range(5)] == [(str(path), f"sa_{n}") for n in range(5)]
    records = read_all(source)
    assert {key: [r.photo, r.record] for key, r in records.items()} == expected(pairs(5))
    assert streamed(source) == list(records.values())


def test_photos_are_read_without_their_json_if_asked(tmp_path):
    for what in (write_tar(tmp_path / "a.tar", pairs(3)), write_folder(tmp_path / "b", pairs(3))):
        source = open_source(what)
        records = list(read_all(source, photo_only=True).values())
        assert all(record.photo and record.record is None for record in records)
        assert streamed(source, photo_only=True) == records


@pytest.mark.parametrize(
    "arrange",
    [
        lambda files: sorted(files, key=lambda file: file[0].endswith(".json")),  # all photos, then all JSON files
        lambda files: files[::-1],
        lambda files: [("./" + name, content) for name, content in files],
        lambda files: [("readme.txt", b"hello"), ("._sa_0.jpg", b"mac"), *files, ("sa_0.txt", b"caption")],
        lambda files: [(name.replace(".jpg", ".JPG"), content) for name, content in files],
    ],
)
def test_files_of_a_pair_need_not_lie_side_by_side(tmp_path, arrange):
    source = open_source(write_tar(tmp_path / "a.tar", arrange(pairs(4))))
    for records in (read_all(source).values(), streamed(source)):
        assert {r.key: [r.photo, r.record] for r in records} == expected(pairs(4))


def test_webdataset_reads_a_whole_tar_without_reading_by_number(tmp_path, monkeypatch):
    source = open_source(write_tar(tmp_path / "a.tar", pairs(4)))
    monkeypatch.setattr(TarShard, "read", None)  # cannot be called now
    assert {r.key: [r.photo, r.record] for r in streamed(source)} == expected(pairs(4))


def test_a_tar_without_webdataset_names_what_to_install(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", pairs(1))
    monkeypatch.setitem(sys.modules, "webdataset.tariterators", None)
    with pytest.raises(UsageError, match=r"pip install 'sam-edge\[train\]'"):
        open_source(path)


def test_names_in_folders_and_long_or_foreign_names_are_kept(tmp_path):
    keys = ["part one/sa_1", "x" * 150, "größe"]
    source = open_source(write_tar(tmp_path / "a.tar", [file for key in keys for file in pair(key, 0)]))
    assert list(read_all(source)) == keys
    assert [record.key for record in streamed(source)] == keys


DATED = "IMG_2023.05.01_12.30"


@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_names_with_dots_are_whole_keys(tmp_path, kind):
    files = [*pair("sa_0", 0), *pair(DATED, 1), *pair("v1.2/a.b", 2)[: 2 if kind == "tar" else 0]]
    what = write_tar(tmp_path / "a.tar", files) if kind == "tar" else write_folder(tmp_path / "b", files)
    source = open_source(what)
    assert {key: [r.photo, r.record] for key, r in read_all(source).items()} == expected(files)
    assert {r.key: r for r in streamed(source)} == read_all(source)


@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_further_parts_of_a_record_are_no_photos(tmp_path, kind):
    files = [*pair("sa_0", 0), ("sa_0.seg.png", encoded(picture(1), "PNG")), ("sa_1.v2.png", b""), *pair("sa_2", 2)]
    what = write_tar(tmp_path / "a.tar", files) if kind == "tar" else write_folder(tmp_path / "b", files)
    source = open_source(what)
    assert set(read_all(source)) == {"sa_0", "sa_1.v2", "sa_2"}  # sa_1.v2 belongs to no record, and lacks its JSON
    assert {r.key for r in streamed(source)} == {"sa_0", "sa_1.v2", "sa_2"}


@pytest.mark.parametrize("folders", [("images", "annotations"), ("JPEGImages", "labels"), ("set/images", "set/json")])
def test_photos_and_json_files_may_lie_in_two_folders(tmp_path, folders):
    photo, record = pair("sa_1.5", 0)
    files = [(f"{folders[0]}/{photo[0]}", photo[1]), (f"{folders[1]}/{record[0]}", record[1])]
    for name, content in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    in_a_folder = open_source((tmp_path / folders[0]).parent)
    in_a_tar = open_source(write_tar(tmp_path / "a.tar", files))
    for source in (in_a_folder, in_a_tar):
        assert len(source) == 1
        for raw in (source.read(0), *streamed(source)):
            assert (raw.photo, raw.record) == (photo[1], record[1])


def test_one_photo_in_two_formats_is_one_record_if_it_has_masks(tmp_path):
    photo, record = pair("a", 0)
    png = ("a.png", encoded(picture(0), "PNG"))
    source = open_source(write_folder(tmp_path / "masks", [photo, png, record]))
    assert len(source) == 1
    assert source.read(0).photo == photo[1]
    source = open_source(write_folder(tmp_path / "photos", [photo, png]))
    assert [source.record_name(number)[1] for number in range(2)] == ["a.jpg", "a.png"]


def test_a_folder_gives_photos_of_every_format(tmp_path):
    names = ["a.jpg", "b.gif", "c.pgm", "d.jfif", "e.avif", "f.jp2", "IMG_1.HEIC", "g.mp4"]
    source = open_source(write_folder(tmp_path / "a", [(name, b"x") for name in names]))
    assert {source.record_name(number)[1] for number in range(len(source))} == set("abcdef") | {"IMG_1"}
    for name in names[:-1]:
        assert len(open_source(tmp_path / "a" / name)) == 1


def test_of_two_files_of_one_name_the_later_counts(tmp_path):
    first, second = pair("a", 0), pair("a", 1)
    source = open_source(write_tar(tmp_path / "a.tar", [*first, *pair("b", 2), *second]))
    assert len(source) == 2
    assert read_all(source)["a"].photo == second[0][1]
    assert {record.key: record for record in streamed(source)} == read_all(source)


def test_a_folder_of_tars_is_one_source(tmp_path):
    for shard in range(3):
        write_tar(tmp_path / "shards" / f"sa_{shard}.tar", pairs(2 + shard, start=10 * shard))
    (tmp_path / "shards" / ".hidden.tar").write_bytes(b"")
    source = open_source(tmp_path / "shards")
    assert source.sizes == (2, 3, 4)
    assert [source.record_name(n)[1] for n in range(9)] == [f"sa_{n}" for n in (0, 1, 10, 11, 12, 20, 21, 22, 23)]
    assert len(streamed(source)) == 9


def test_a_folder_of_pairs(tmp_path):
    folder = write_folder(tmp_path / "photos", pairs(3))
    source = open_source(folder)
    assert source.annotated
    assert {key: [r.photo, r.record] for key, r in read_all(source).items()} == expected(pairs(3))
    assert source.record_name(0) == (str(folder), "sa_0")


def test_incomplete_pairs_are_records_too(tmp_path):
    photo_alone, json_alone = pairs(1)[0], pair("other", 1)[1]
    files = [photo_alone, json_alone, *pairs(2, start=5)]
    for what in (write_tar(tmp_path / "a.tar", files), write_folder(tmp_path / "b", files)):
        source = open_source(what)
        assert {key: [r.photo, r.record] for key, r in read_all(source).items()} == expected(files)
        assert {r.key for r in streamed(source)} == set(expected(files))


def test_a_folder_of_photos_ignores_other_json_files(tmp_path):
    photos = [(name, content) for name, content in pairs(3) if name.endswith(".jpg")]
    source = open_source(write_folder(tmp_path / "photos", [*photos, ("notes.json", b"[]"), ("notes.md", b"")]))
    assert len(source) == 3
    assert not source.annotated
    source = open_source(write_tar(tmp_path / "photos.tar", photos))
    assert not source.annotated
    assert all(record.record is None for record in streamed(source))


def test_a_list_of_photos(tmp_path):
    write_folder(tmp_path / "photos", pairs(2))
    absolute = tmp_path / "photos" / "sa_1.jpg"
    (tmp_path / "list.txt").write_text(f"# mine\nphotos/sa_0.jpg\n\n{absolute}\nphotos/gone.jpg\n")
    source = open_source(tmp_path / "list.txt")
    assert len(source) == 3
    assert not source.annotated
    assert source.read(1).photo == absolute.read_bytes()
    assert [type(record) for record in streamed(source)] == [RawRecord, RawRecord, Skip]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_of_every_editor_are_read(tmp_path, encoding, end):
    write_folder(tmp_path / "größe", pairs(2))
    text = end.join(["größe/sa_0.jpg", ".\\größe\\sa_1.jpg", ""])
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    source = open_source(tmp_path / "list.txt")
    assert [source.record_name(number) for number in range(2)] == [(str(tmp_path / "größe"), f"sa_{n}") for n in (0, 1)]
    assert all(isinstance(record, RawRecord) for record in streamed(source))


def test_one_photo_brings_its_json(tmp_path):
    source = open_source(write_folder(tmp_path / "photos", pairs(2)) / "sa_1.jpg")
    assert len(source) == 1
    assert source.annotated
    assert source.read(0).record is not None


def test_patterns(tmp_path, monkeypatch):
    for place in ("train_0", "train_1", "val"):
        write_tar(tmp_path / f"{place}.tar", pairs(2, prefix=place))
    write_folder(tmp_path / "photos", pairs(3))
    for pattern, count in [("train_{0,1}.tar", 4), ("train_{0..1}.tar", 4), ("*.tar", 6), ("{val,train_?}.tar", 6)]:
        source = open_source(tmp_path / pattern)
        assert (len(source), source.name) == (count, str(tmp_path / pattern))
    assert open_source(f"{tmp_path}/{{val,train_?}}.tar").record_name(0)[1] == "val0"  # the braces' order, then sorted
    assert len(open_source(f"{tmp_path}/**/*.jpg")) == 3
    monkeypatch.chdir(tmp_path)
    assert len(open_source("train_*.tar")) == 4


def test_an_existing_name_with_braces_is_not_a_pattern(tmp_path):
    assert len(open_source(write_tar(tmp_path / "a{1,2}.tar", pairs(2)))) == 2


# Parts and splits ---------------------------------------------------------------------------------------------------


def sharded(tmp_path, sizes=(7, 1, 12)):
    for shard, size in enumerate(sizes):
        write_tar(tmp_path / "shards" / f"{shard}.tar", pairs(size, start=100 * shard))
    return open_source(tmp_path / "shards")


def keys_of(source) -> list[str]:
    return [source.record_name(number)[1] for number in range(len(source))]


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 7, 30])
def test_parts_are_disjoint_and_complete(tmp_path, parts):
    source = sharded(tmp_path)
    shares = [source.part(part, parts) for part in range(parts)]
    assert sorted(key for share in shares for key in keys_of(share)) == sorted(keys_of(source))
    seen = [record.key for share in shares for record in streamed(share)]
    assert sorted(seen) == sorted(keys_of(source))
    if parts > len(source.shards):
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_split_depends_on_key_and_seed_alone(tmp_path):
    source = sharded(tmp_path, (40, 60))
    train, validation = source.split(seed=3, validation=0.2)
    assert sorted(keys_of(train) + keys_of(validation)) == sorted(keys_of(source))
    assert 8 <= len(validation) <= 34  # binomial, four standard deviations
    assert sorted(record.key for record in streamed(validation)) == sorted(keys_of(validation))
    alone = open_source(tmp_path / "shards" / "1.tar").split(seed=3, validation=0.2)[1]
    assert set(keys_of(alone)) == {key for key in keys_of(validation) if int(key[3:]) >= 100}
    assert set(keys_of(source.split(seed=4, validation=0.2)[1])) != set(keys_of(validation))
    larger = source.split(seed=3, validation=0.5)[1]
    assert set(keys_of(validation)) < set(keys_of(larger))


def test_a_split_with_an_empty_part_is_refused(tmp_path):
    source = open_source(write_tar(tmp_path / "a.tar", pairs(2)))
    with pytest.raises(DataError, match="2 records, too few"):
        source.split(seed=0, validation=1e-6)
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(UsageError, match="validation share of"):
            source.split(seed=0, validation=share)
    with pytest.raises(UsageError, match="no part 2 of 2"):
        source.part(2, 2)
    with pytest.raises(UsageError, match="no record 2"):
        source.read(2)


def test_an_annotated_source_stays_annotated_in_its_parts(tmp_path):
    source = open_source(write_tar(tmp_path / "a.tar", [*pairs(1), (pairs(2)[2])]))
    assert [source.part(part, 2).annotated for part in (0, 1)] == [True, True]


def test_a_source_can_be_sent_to_a_worker(tmp_path):
    source = pickle.loads(pickle.dumps(sharded(tmp_path)))
    assert len(streamed(source)) == 20


# The index ----------------------------------------------------------------------------------------------------------


def test_the_index_of_a_large_shard_is_cached_until_the_shard_changes(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(tar_index_module, "WORTH_KEEPING", 0)
    path = write_tar(tmp_path / "a.tar", pairs(3))
    first = open_source(path)
    (kept,) = (cache / "tar-index").iterdir()
    monkeypatch.setattr(tar_index_module, "_read_index", None)  # cannot be called now
    assert read_all(open_source(path)) == read_all(first)
    monkeypatch.undo()
    monkeypatch.setenv("SAM_EDGE_CACHE", str(cache))
    monkeypatch.setattr(tar_index_module, "WORTH_KEEPING", 0)
    kept.write_bytes(b"damaged")
    assert read_all(open_source(path)) == read_all(first)
    write_tar(path, pairs(4))
    assert len(open_source(path)) == 4


def test_a_cache_that_cannot_be_written_is_not_needed(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(tar_index_module, "WORTH_KEEPING", 0)
    cache.write_bytes(b"a file where the folder should be")
    assert len(open_source(write_tar(tmp_path / "a.tar", pairs(3)))) == 3


def test_the_index_of_a_small_shard_is_not_cached(tmp_path, cache):
    open_source(write_tar(tmp_path / "a.tar", pairs(3)))
    assert not cache.exists()


# Truncated and changed shards ---------------------------------------------------------------------------------------


def test_a_truncated_shard_loses_the_record_it_ends_in(tmp_path):
    path = write_tar(tmp_path / "a.tar", pairs(3))
    whole = open_source(path)
    offset = int(whole.shards[0].index.places[2, 0])
    os.truncate(path, offset + 100)
    source = open_source(path)
    records = streamed(source)
    assert [type(record) for record in records] == [RawRecord, RawRecord, Skip]
    assert records[2].key == "sa_2"
    assert "cut off" in records[2].reason
    assert len(read_all(source.part(0, 1).select(np.array([True, True, False])))) == 2


def test_a_shard_that_disappears_skips_its_records(tmp_path):
    source = open_source(write_tar(tmp_path / "a.tar", pairs(2)))
    (tmp_path / "a.tar").unlink()
    assert [type(record) for record in streamed(source)] == [Skip, Skip]


# Refusing -----------------------------------------------------------------------------------------------------------


def damaged(tmp_path):
    path = write_tar(tmp_path / "damaged.tar", pairs(3))
    place = int(open_source(path).shards[0].index.places[1, 0]) - 512
    content = bytearray(path.read_bytes())
    content[place : place + 100] = b"\xff" * 100
    path.write_bytes(content)
    return path


def compressed(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(write_tar(tmp_path / "b.tar", pairs(1)).read_bytes()))
    return path


def file(name: str, content: bytes):
    def write(tmp_path):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def folder(*files):
    return lambda tmp_path: write_folder(tmp_path / "folder", list(files))


PHOTO = ("a.jpg", encoded(picture(0)))
BAD = {
    "missing": (lambda path: path / "gone", "no data at .*gone: check the path"),
    "missing tar": (lambda path: path / "gone.tar", "no data at .*gone.tar: check the path"),
    "null byte": (lambda _: "a\0b", "no data|no path"),
    "endless name": (lambda _: "a" * 5000, "no data at|no path"),
    "pattern without matches": (lambda path: path / "*.tar", "nothing matches"),
    "brace without its file": (lambda path: path / "{a,b}.tar", "2 missing paths"),
    "open brace": (lambda path: path / "{a.tar", "braces|missing paths"),
    "empty folder": (folder(), "is empty"),
    "folder of other things": (folder(("a.md", b"")), "neither shards .* nor photos"),
    "folder of JSON": (folder(("a.json", b"{}")), "neither shards .* nor photos"),
    "folder of folders": (lambda path: write_folder(path / "roof" / "train", [PHOTO]).parent, "such as .*train"),
    "shards and photos": (folder(PHOTO, ("a.tar", b"")), "1 shards and 1 photos"),
    "empty tar": (lambda path: write_tar(path / "a.tar", []), "holds no photos"),
    "tar of JSON": (lambda path: write_tar(path / "a.tar", [("a.json", b"{}")]), "holds no photos"),
    "tar of text": (lambda path: write_tar(path / "a.tar", [("a.txt", b"{}")]), "holds no photos"),
    "zero bytes": (file("a.tar", b""), "is not a tar"),
    "text as tar": (file("a.tar", b"not a tar at all\n" * 100), "is not a tar"),
    "a JPEG as tar": (file("a.tar", PHOTO[1]), "is not a tar"),
    "another file": (file("a.bin", b"abc" * 1000), "is not a tar"),
    "compressed tar": (compressed, r"unpack \.tar\.gz"),
    "damaged between records": (damaged, "damaged at byte"),
    "empty list": (file("a.txt", b"# nothing\n\n"), "names no photo"),
    "list that is no text": (file("a.txt", b"\xff\xfe\x00"), "not UTF-8"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused_in_one_line(tmp_path, name):
    make, says = BAD[name]
    with pytest.raises(DataError, match=says) as error:
        open_source(make(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", ["tar", "txt", "bin"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_refused_at_once(tmp_path, ending, kind):
    path = tmp_path / f"a.{ending}"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="no regular file"):
        open_source(path)


def test_a_pipe_in_a_folder_is_a_broken_record(tmp_path):
    folder = write_folder(tmp_path / "photos", pairs(2))
    os.mkfifo(folder / "sa_2.jpg")
    os.mkfifo(folder / "instances.json")
    (broken,) = (
        record for record in streamed(open_source(folder)) if isinstance(record, Skip) and record.key == "sa_2"
    )
    assert "no regular file" in broken.reason
    (folder / "sa_0.json").unlink()
    (folder / "sa_1.json").unlink()
    assert not open_source(folder).annotated  # the pipe is no COCO file


def test_a_folder_that_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    if os.access(tmp_path / "closed", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DataError, match="permissions"):
        open_source(tmp_path / "closed")


def test_records_are_plain_json(tmp_path):
    source = open_source(write_tar(tmp_path / "a.tar", pairs(1)))
    assert len(json.loads(source.read(0).record)["annotations"]) == 3
