"""A piece: its files, interruptions, and existing masks."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from sam_edge.annotation.pieces import PieceFolder, divide, keys_of
from sam_edge.annotation.worker import annotate_piece
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import Source, open_source
from sam_edge.data.stream import walk
from tests.data.builders import encoded, exif_of, pair, pairs, picture, record, rectangles, write_folder, write_tar
from tests.runtime.automatic.discs import disc_generator

COUNT = 5


def annotate(source, out, *, existing=False, tell=lambda kind, what: None, records=1000):
    for piece in divide(source, records):
        annotate_piece(PieceFolder(out, piece), source, disc_generator(), existing, tell)


@pytest.fixture
def photos(tmp_path):
    return open_source(
        write_folder(tmp_path / "photos", [(f"p{n}.png", encoded(picture(n), "PNG")) for n in range(COUNT)])
    )


def records_of(shard) -> dict[str, dict]:
    with tarfile.open(shard) as tar:
        return {name: json.loads(tar.extractfile(name).read()) for name in tar.getnames() if name.endswith(".json")}


def test_shards_are_read_by_our_reader_and_by_pycocotools(photos, tmp_path):
    annotate(photos, tmp_path / "out")
    shard = tmp_path / "out" / "sa_000000.tar"
    with tarfile.open(shard) as tar:
        assert sorted(tar.getnames()) == sorted(f"p{n}.{ending}" for n in range(COUNT) for ending in ("png", "json"))
    written, ids = records_of(shard), set()
    for number, sample in enumerate(walk(open_source(shard), SkipLog())):
        wanted = disc_generator().generate(picture(number))
        assert len(wanted) > 3
        assert [dict(rle) for rle in sample.rles] == [mask["segmentation"] for mask in wanted]
        record = written[f"p{number}.json"]
        assert record["image"] == {
            "image_id": number,
            "width": 40,
            "height": 30,
            "file_name": f"p{number}.png",
            "orientation": "upright",
        }
        for annotation, mask in zip(record["annotations"], wanted, strict=True):
            assert {name: annotation[name] for name in mask} == mask
            assert coco.area(annotation["segmentation"]) == annotation["area"]
            ids.add(annotation["id"])
    assert len(ids) == sum(len(record["annotations"]) for record in written.values())


def test_an_interruption_neither_loses_nor_repeats_photos(photos, tmp_path):
    annotate(photos, tmp_path / "whole", records=3)
    asked: list[str] = []

    def stop_at_the_third(kind, what):
        asked.append(what)
        if len(asked) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        annotate(photos, tmp_path / "out", tell=stop_at_the_third, records=3)
    assert {path.name for path in (tmp_path / "out").glob("*.tar")} == {"sa_000000.tar"}
    again: list[str] = []
    annotate(photos, tmp_path / "out", tell=lambda kind, what: again.append(what), records=3)
    assert sorted(asked + again) == [f"p{n}" for n in range(COUNT)]
    for name in ("sa_000000.tar", "sa_000001.tar"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "out" / ".work").iterdir())


@pytest.mark.parametrize(("owner", "method"), [(Source, "read"), (Path, "replace")])
def test_two_processes_that_pack_one_piece_make_one_shard(photos, tmp_path, monkeypatch, owner, method):
    """A process that outlived its killed parent packs while the next run reads, or before that renames its shard."""
    annotate(photos, tmp_path / "whole")
    (piece,) = divide(photos, 1000)
    folder, other = (PieceFolder(tmp_path / "out", piece) for _ in range(2))
    keys = keys_of(photos, piece)
    with monkeypatch.context() as patch:
        patch.setattr(PieceFolder, "pack", lambda *_: None)
        annotate(photos, tmp_path / "out")
    original, called = getattr(owner, method), []

    def with_the_other_first(self, *arguments, **options):
        if not called:
            called.append(self)
            other.pack(photos, keys)
        return original(self, *arguments, **options)

    monkeypatch.setattr(owner, method, with_the_other_first)
    folder.pack(photos, keys)
    assert called
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"sa_000000.tar"}
    assert (tmp_path / "out/sa_000000.tar").read_bytes() == (tmp_path / "whole/sa_000000.tar").read_bytes()
    assert folder.open_numbers() == []


def test_unusable_photos_are_listed_and_the_others_are_done(tmp_path):
    narrow = encoded(picture(0, (1, 3000)))
    files = [*pairs(3), ("sa_8.jpg", narrow), ("sa_9.jpg", b"no picture"), ("sa_9.json", b"{}")]
    source = open_source(write_tar(tmp_path / "in.tar", files))
    told: list[tuple[str, str]] = []
    annotate(source, tmp_path / "out", tell=lambda *event: told.append(event))
    assert [kind for kind, _ in told].count("failed") == 2
    failures = json.loads((tmp_path / "out" / "failures" / "sa_000000.json").read_text())
    assert list(failures) == ["sa_8", "sa_9"]
    assert "too narrow" in failures["sa_8"]
    assert "no picture in a supported format" in failures["sa_9"]
    assert list(records_of(tmp_path / "out" / "sa_000000.tar")) == [f"sa_{n}.json" for n in range(3)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_opencv_shows_a_packed_photo_as_its_masks_lie(tmp_path, kind, orientation):
    cv2 = pytest.importorskip("cv2")
    photo = encoded(picture(3), kind, exif=exif_of(orientation))
    source = open_source(write_tar(tmp_path / "in.tar", [("a.jpg", photo)]))
    annotate(source, tmp_path / "out")
    shard = tmp_path / "out" / "sa_000000.tar"
    (sample,) = walk(open_source(shard), SkipLog())
    with tarfile.open(shard) as tar:
        (name,) = (name for name in tar.getnames() if not name.endswith(".json"))
        shown = cv2.imdecode(np.frombuffer(tar.extractfile(name).read(), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert records_of(shard)["a.json"]["image"]["file_name"] == name
    assert sample.size == shown.shape[:2] == ((30, 40) if orientation < 5 else (40, 30))
    assert np.abs(shown.astype(int) - sample.photo).max() <= 3  # two JPEG decoders
    assert [dict(rle) for rle in sample.rles] == [m["segmentation"] for m in disc_generator().generate(sample.photo)]


@pytest.mark.parametrize("kind", ["GIF", "PPM", "AVIF", "JPEG2000"])
def test_formats_that_few_readers_know_are_packed_as_png(tmp_path, kind):
    source = open_source(write_tar(tmp_path / "in.tar", [("a.jpg", encoded(picture(3), kind))]))
    annotate(source, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "sa_000000.tar") as tar:
        assert sorted(tar.getnames()) == ["a.json", "a.png"]
        assert tar.extractfile("a.png").read().startswith(b"\x89PNG")
    (sample,) = walk(open_source(tmp_path / "out" / "sa_000000.tar"), SkipLog())
    np.testing.assert_array_equal(sample.photo, next(walk(source, SkipLog(), photos_only=True)).photo)


def test_existing_masks_of_the_stored_frame_are_kept_in_the_upright_one(tmp_path):
    masks = rectangles(7)
    files = [
        ("sa_7.jpg", encoded(picture(7), exif=exif_of(6))),
        ("sa_7.json", json.dumps(record(masks)).encode()),
    ]
    annotate(open_source(write_tar(tmp_path / "in.tar", files)), tmp_path / "out", existing=True)
    (sample,) = walk(open_source(tmp_path / "out" / "sa_000000.tar"), SkipLog())
    np.testing.assert_array_equal(sample.masks([0, 1, 2]), np.rot90(masks, -1, axes=(1, 2)))


def test_a_piece_without_a_usable_photo_is_complete(tmp_path):
    source = open_source(write_tar(tmp_path / "in.tar", [("a.jpg", b"no picture")]))
    annotate(source, tmp_path / "out")
    (piece,) = divide(source, 10)
    assert PieceFolder(tmp_path / "out", piece).complete
    assert not list((tmp_path / "out").glob("*.tar"))


def test_existing_masks_are_kept_and_others_found_outside_of_them(tmp_path):
    source = open_source(write_tar(tmp_path / "in.tar", pair("sa_7", 7)))
    annotate(source, tmp_path / "out", existing=True)
    annotate(source, tmp_path / "anew")
    record = records_of(tmp_path / "out" / "sa_000000.tar")["sa_7.json"]
    assert record["image"]["image_id"] == 7
    before = rectangles(7)
    masks = [coco.decode(annotation["segmentation"]).astype(bool) for annotation in record["annotations"]]
    for mask, wanted in zip(masks[:3], before, strict=True):
        np.testing.assert_array_equal(mask, wanted)
    assert record["annotations"][0]["predicted_iou"] == 0.9
    covered = before.any(axis=0)
    assert masks[3:]
    for mask, annotation in zip(masks[3:], record["annotations"][3:], strict=True):
        (x, y), *_ = annotation["point_coords"]
        assert not covered[int(y), int(x)]
        assert 2 * np.count_nonzero(mask & covered) <= np.count_nonzero(mask)
    assert len(records_of(tmp_path / "anew" / "sa_000000.tar")["sa_7.json"]["annotations"]) > len(masks) - 3


def test_a_piece_has_one_input_shard_and_names_are_unique(tmp_path):
    for name, start in (("a", 0), ("b", 5)):
        write_tar(tmp_path / "in" / f"{name}.tar", pairs(5, start=start))
    source = open_source(tmp_path / "in")
    pieces = divide(source, 3)
    assert [list(piece.numbers) for piece in pieces] == [[0, 1, 2], [3, 4], [5, 6, 7], [8, 9]]
    assert [piece.name for piece in pieces] == [f"sa_{n:06d}" for n in range(4)]
    files = [("x/one.v2.jpg", encoded(picture(0))), ("y/one.v3.jpg", encoded(picture(1)))]
    for name, content in files:
        write_folder((tmp_path / name).parent, [(name.split("/")[1], content)])
    (tmp_path / "list.txt").write_text("x/one.v2.jpg\ny/one.v3.jpg\nx/one.v2.jpg\n")
    source = open_source(tmp_path / "list.txt")
    (piece,) = divide(source, 10)
    assert list(keys_of(source, piece).values()) == ["one_v2", "one_v3", "one_v2_2"]
