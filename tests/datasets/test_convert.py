"""Conversions keep masks exactly where the format can, say what is lost where it cannot, and stay in their folder."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from sam_edge.cli.app import run
from sam_edge.data.sa1b import parse_record
from sam_edge.data.sources import open_source
from sam_edge.datasets.convert import ConvertJob, convert
from sam_edge.datasets.entries import entries
from sam_edge.datasets.writers.coco import LvisWriter
from sam_edge_runtime.errors import OutputError, SamEdgeError, UsageError
from tests.data.builders import encoded, pairs, picture, record, rectangles, write_folder, write_tar
from tests.datasets.builders import NAMES, coco_document, write_coco

EXACT = (("sa1b", None), ("coco", "rle"), ("coco", "uncompressed"), ("labelme", "rle"), ("lvis", "rle"))
HOLED = np.zeros((12, 16), bool)
HOLED[2:10, 3:12] = True
HOLED[4:6, 5:8] = False


def read(what: str | Path) -> dict[str, list[tuple[np.ndarray, str | None, bool]]]:
    """Mask, name and crowd of each annotation, by photo; the masks decoded by pycocotools."""
    skipped: list[object] = []
    found = {
        entry.stem: [(coco_masks.decode(dict(a.rle)).astype(bool), a.name, a.crowd) for a in entry.masks]
        for entry in entries(open_source(what, photos_needed=False), skipped.append)
    }
    assert not skipped
    return found


def same(one: dict, other: dict, *, names: bool = True) -> bool:
    """Whether all masks are equal, in their order, and their names and crowds too."""
    return one.keys() == other.keys() and all(
        len(one[key]) == len(other[key])
        and all(
            np.array_equal(a, b) and (not names or (name, crowd) == (other_name, other_crowd))
            for (a, name, crowd), (b, other_name, other_crowd) in zip(one[key], other[key], strict=True)
        )
        for key in one
    )


def document_of(out: Path) -> Path:
    return next((path for path in sorted(out.glob("*.json")) if path.name in ("instances.json", "lvis.json")), out)


@pytest.fixture
def coco(tmp_path) -> Path:
    """Three photos in COCO's layout; a mask is a crowd, one has a hole."""
    path = write_coco(tmp_path / "coco" / "instances.json", 3)
    document = json.loads(path.read_text())
    document["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(("to", "form"), EXACT)
def test_a_round_trip_keeps_masks_names_and_crowds(tmp_path, coco, to, form):
    out, back = tmp_path / "out", tmp_path / "back"
    result = convert(ConvertJob(str(coco), out, to, form, with_photos=True))
    assert (result.photos, result.left_out, result.loss.changed, result.loss.masks) == (3, 0, 0, 9)
    assert same(read(coco), read(document_of(out)))
    convert(ConvertJob(str(document_of(out)), back, "coco"))
    assert same(read(coco), read(back / "instances.json"))


@pytest.mark.parametrize(("to", "form"), [*EXACT, ("coco", "polygons"), ("voc", None), ("cityscapes", None)])
def test_photos_are_written_so_that_the_set_can_be_trained_on(tmp_path, coco, to, form):
    from sam_edge.data.skips import SkipLog
    from sam_edge.data.stream import walk

    out = tmp_path / "out"
    convert(ConvertJob(str(coco), out, to, form, with_photos=True))
    samples = list(walk(open_source(document_of(out)), SkipLog()))
    assert len(samples) == 3
    assert all(np.abs(sample.photo.astype(int) - picture(seed)).max() < 40 for seed, sample in enumerate(samples))


@pytest.mark.parametrize("form", ["rle", "uncompressed", "polygons"])
def test_pycocotools_reads_the_same_masks(tmp_path, coco, form):
    convert(ConvertJob(str(coco), tmp_path / "out", "coco", form))
    ours = COCO(str(tmp_path / "out" / "instances.json"))
    assert [category["name"] for category in ours.loadCats(ours.getCatIds())] == ["dog", "cat", "tree"]
    for number, image in enumerate(ours.loadImgs(ours.getImgIds())):
        assert image["file_name"] == f"sa_{number}.jpg"
        found = {}
        for annotation in ours.loadAnns(ours.getAnnIds(imgIds=[image["id"]])):
            mask = ours.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == [
                float(value) for value in coco_masks.toBbox(coco_masks.encode(np.asfortranarray(mask)))
            ]
            found[ours.loadCats(annotation["category_id"])[0]["name"]] = mask
        assert all(np.array_equal(found[name], mask) for name, mask in zip(NAMES, rectangles(number), strict=True))
    crowds = [each for each in ours.anns.values() if each["iscrowd"]]
    assert len(crowds) == 1
    assert isinstance(crowds[0]["segmentation"], dict)
    assert isinstance(crowds[0]["segmentation"]["counts"], str if form == "rle" else list)


def test_holes_that_polygons_fill_are_counted(tmp_path):
    files = [("a.jpg", encoded(picture(0, HOLED.shape))), ("a.json", json.dumps(record(HOLED[None])).encode())]
    folder = write_folder(tmp_path / "in", files)
    result = convert(ConvertJob(str(folder), tmp_path / "out", "coco", "polygons"))
    assert (result.loss.changed, result.loss.masks) == (1, 1)
    assert result.loss.lowest == pytest.approx(HOLED.sum() / (HOLED.sum() + 6))
    ((mask, _, _),) = read(tmp_path / "out" / "instances.json")["a"]
    assert mask.sum() == HOLED.sum() + 6


def test_estimates_of_sa1b_survive_coco(tmp_path):
    tar = write_tar(tmp_path / "a.tar", pairs(2))
    convert(ConvertJob(str(tar), tmp_path / "coco", "coco", with_photos=True))
    convert(ConvertJob(str(tmp_path / "coco" / "instances.json"), tmp_path / "again", "sa1b"))
    first, second = (open_source(each) for each in (tar, tmp_path / "again"))
    for number in range(2):
        before, after = (parse_record(source.read(number).record).annotations for source in (first, second))
        for one, other in zip(before, after, strict=True):
            assert (one.rle, one.predicted_iou, one.stability_score) == (
                other.rle,
                other.predicted_iou,
                other.stability_score,
            )
            assert (one.point_coords, one.crop_box) == (other.point_coords, other.crop_box)


def test_lvis_says_how_frequent_categories_are(tmp_path, coco):
    convert(ConvertJob(str(coco), tmp_path / "out", "lvis"))
    document = json.loads((tmp_path / "out" / "lvis.json").read_text())
    assert LvisWriter.masks[0] == "polygons"
    assert {each["name"]: each["frequency"] for each in document["categories"]} == dict.fromkeys(NAMES, "r")
    assert [each["instance_count"] for each in document["categories"]] == [3, 3, 3]
    assert "file_name" not in document["images"][0]
    assert same(read(coco), read(tmp_path / "out" / "lvis.json"))


class TestLabelPictures:
    def test_voc_has_a_number_for_each_object_and_class(self, tmp_path, coco):
        result = convert(ConvertJob(str(coco), tmp_path / "out", "voc", with_photos=True))
        with Image.open(tmp_path / "out" / "SegmentationObject" / "sa_0.png") as opened:
            assert opened.mode == "P"
            assert opened.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
            objects = np.array(opened)
        masks = rectangles(0)
        assert set(np.unique(objects)) <= {0, 1, 2, 3}
        assert np.array_equal(objects > 0, masks.any(axis=0))
        classes = np.array(Image.open(tmp_path / "out" / "SegmentationClass" / "sa_0.png"))
        assert set(np.unique(classes)) == {0, 8, 12, 21}  # VOC's own numbers of cats and dogs; the first free one
        assert (tmp_path / "out" / "ImageSets" / "Segmentation" / "all.txt").read_text().split() == [
            "sa_0",
            "sa_1",
            "sa_2",
        ]
        names = {name for found in read(tmp_path / "out").values() for _, name, _ in found}
        assert names == set(NAMES)
        assert result.loss.masks == 9

    def test_masks_apart_are_kept_exactly_and_overlaps_are_counted(self, tmp_path):
        apart = np.zeros((2, 12, 16), bool)
        apart[0, :5, :6], apart[1, 7:, 8:] = True, True
        nested = apart.copy()
        nested[1] = False
        nested[1, 1:3, 1:4] = True  # six of the 30 pixels of the first
        for name, masks, lowest in (("apart", apart, 1.0), ("nested", nested, 0.8)):
            files = [("a.jpg", encoded(picture(0, (12, 16)))), ("a.json", json.dumps(record(masks)).encode())]
            folder = write_folder(tmp_path / name, files)
            for to in ("voc", "cityscapes"):
                out = tmp_path / f"{name} {to}"
                loss = convert(ConvertJob(str(folder), out, to)).loss
                assert loss.lowest == pytest.approx(lowest)
                assert loss.changed == (lowest < 1)
                if name == "apart":
                    assert same(read(folder), read(out), names=False)

    def test_cityscapes_ids_tell_class_number_and_crowd(self, tmp_path):
        document = coco_document(1)
        document["categories"] = [{"id": 10, "name": "car"}, {"id": 11, "name": "car"}, {"id": 12, "name": "kite"}]
        document["annotations"] = [
            {**each, "iscrowd": int(each["category_id"] == 12)} for each in document["annotations"]
        ]
        (tmp_path / "a.json").write_text(json.dumps(document))
        convert(ConvertJob(str(tmp_path / "a.json"), tmp_path / "out", "cityscapes"))
        (path,) = (tmp_path / "out" / "gtFine").rglob("*_instanceIds.png")
        ids = set(np.unique(np.array(Image.open(path)))) - {0}
        assert ids <= {26000, 26001, 34}  # Cityscapes' number of cars; the first that is free
        assert 34 in ids
        found = read(tmp_path / "out")["sa_0"]
        assert {(name, crowd) for _, name, crowd in found} == {("car", False), ("kite", True)}

    def test_more_objects_than_a_picture_holds_are_left_out(self, tmp_path):
        masks = np.zeros((255, 16, 16), bool)
        masks.reshape(255, -1)[np.arange(255), np.arange(255)] = True
        many = [("a.jpg", encoded(picture(0, (16, 16)))), ("a.json", json.dumps(record(masks)).encode())]
        folder = write_folder(tmp_path / "in", [*many, *pairs(1)])
        result = convert(ConvertJob(str(folder), tmp_path / "out", "voc"))
        assert (result.photos, result.left_out) == (1, 1)
        assert "254" in result.named[0].reason


def test_names_beside_a_shard_are_kept(tmp_path, coco):
    convert(ConvertJob(str(coco), tmp_path / "out", "sa1b"))
    assert sorted(json.loads((tmp_path / "out" / "sa_000000.names.json").read_text())["sa_0"]) == sorted(NAMES)
    (tmp_path / "coco2").mkdir()
    tar = (tmp_path / "out" / "sa_000000.tar").rename(tmp_path / "coco2" / "a.tar")
    names = {"sa_0": ["a", "b", None], "sa_1": [None] * 3, "sa_2": [None] * 3}
    (tmp_path / "coco2" / "a.names.json").write_text(json.dumps(names))
    assert [name for _, name, _ in read(tar)["sa_0"]] == [*(name for _, name, _ in read(coco)["sa_0"])]


def test_photos_are_found_in_another_folder(tmp_path, coco):
    alone = tmp_path / "alone" / "a.json"
    alone.parent.mkdir()
    alone.write_bytes(coco.read_bytes())
    assert run(["data", "convert", str(alone), str(tmp_path / "out"), "--to", "sa1b"]) == 2
    assert not (tmp_path / "out").exists()
    assert (
        run(["data", "convert", str(alone), str(tmp_path / "out"), "--to", "sa1b", "--photos", str(coco.parent)]) == 0
    )
    assert same(read(coco), read(tmp_path / "out"))


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/../../evil", "..", "C:\\evil", "con\nsole", "x" * 300])
@pytest.mark.parametrize("to", ["sa1b", "labelme", "voc", "cityscapes", "coco"])
def test_no_name_leads_out_of_the_folder(tmp_path, name, to):
    tar = write_tar(
        tmp_path / "in" / "a.tar", [(f"{name}{n[-4:] if n.endswith('.jpg') else '.json'}", c) for n, c in pairs(1)]
    )
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "deep" / "down" / "out"
    with contextlib.suppress(SamEdgeError):  # a name that even the reader refuses
        convert(ConvertJob(str(tar), out, to, with_photos=True))
    made = [path for path in set(tmp_path.rglob("*")) - before if path.is_file()]
    assert all(path.is_relative_to(out) for path in made)


def test_two_photos_of_one_name_do_not_replace_each_other(tmp_path):
    tar = write_tar(tmp_path / "a.tar", [*pairs(1, prefix="one/sa_"), *pairs(1, prefix="two/SA_")])
    for to in ("labelme", "voc", "sa1b"):
        result = convert(ConvertJob(str(tar), tmp_path / to, to))
        assert (result.photos, len(read(tmp_path / to))) == (2, 2)


def test_an_earlier_conversion_is_replaced_only_if_asked(tmp_path, coco):
    out = tmp_path / "out"
    convert(ConvertJob(str(coco), out, "labelme"))
    with pytest.raises(OutputError, match="--overwrite"):
        convert(ConvertJob(str(coco), out, "voc"))
    convert(ConvertJob(str(coco), out, "voc", overwrite=True))
    assert not list(out.glob("sa_*.json"))
    (out / "mine.txt").touch()
    with pytest.raises(OutputError, match=r"mine\.txt"):
        convert(ConvertJob(str(coco), out, "coco", overwrite=True))
    assert (out / "SegmentationObject").is_dir()


def test_an_interrupted_conversion_leaves_nothing(tmp_path, coco):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(ConvertJob(str(coco), tmp_path / "out", "coco"), interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"to": "pascal"}, "sa1b, coco, lvis"),
        ({"masks": "png"}, "rle, uncompressed, polygons"),
        ({"to": "voc", "masks": "rle"}, "leave --masks out"),
        ({"photos": Path("missing")}, "--photos missing"),
    ],
)
def test_jobs_that_make_no_sense_are_refused(change, words):
    with pytest.raises(UsageError, match=words):
        ConvertJob(**{"source": "a", "out": Path("out"), "to": "coco", **change})


def test_the_command_says_what_was_lost(tmp_path, coco, capsys):
    assert run(["data", "convert", str(coco), str(tmp_path / "out"), "--to", "coco"]) == 0
    printed = capsys.readouterr().out
    assert "3 photos, 9 masks" in printed
    assert "exactly as they were" in printed
