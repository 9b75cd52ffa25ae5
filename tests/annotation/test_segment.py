"""`sam-edge segment`: one photo, a folder with a bad photo, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from sam_edge.cli.app import run
from sam_edge.data.sources import open_source
from sam_edge_runtime.photo.draw import draw_all_masks
from sam_edge_runtime.photo.formats import LIMIT_VARIABLE
from tests.data.builders import encoded, picture, write_folder
from tests.reference import reference_bbox

GRID = ["--points-per-side", "3", "--pred-iou-thresh", "0.1", "--stability-score-thresh", "0.1"]


@pytest.fixture
def cup(tmp_path) -> Path:
    data = pytest.importorskip("skimage.data")
    path = tmp_path / "cup.jpg"
    Image.fromarray(data.coffee()).save(path)
    return path


def test_a_photo_gives_a_record_and_a_picture(cup, tmp_path, capsys):
    assert run(["segment", str(cup), "--out", str(tmp_path / "out"), *GRID]) == 0
    record = json.loads((tmp_path / "out" / "cup.json").read_text())
    assert record["image"] == {
        "image_id": 0,
        "width": 600,
        "height": 400,
        "file_name": "cup.jpg",
        "orientation": "upright",
    }
    assert f"{len(record['annotations'])} masks" in capsys.readouterr().out
    assert record["annotations"]
    for annotation in record["annotations"]:
        mask = coco.decode(annotation["segmentation"])
        assert mask.shape == (400, 600)
        assert mask.sum() == annotation["area"]
        assert annotation["bbox"] == reference_bbox(mask > 0)
    with Image.open(tmp_path / "out" / "cup_masks.jpg") as drawn:
        assert drawn.size == (600, 400)


def test_results_of_an_earlier_run_are_kept_without_overwrite(cup, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--no-picture", *GRID]
    assert run(["segment", str(cup), *out]) == 0
    assert not list((tmp_path / "out").glob("*.jpg"))
    assert run(["segment", str(cup), *out]) == 2
    assert "cup.json exists: add --overwrite" in capsys.readouterr().err
    assert run(["segment", str(cup), *out, "--overwrite"]) == 0


def test_a_bad_photo_in_a_folder_is_named_and_the_others_are_done(tmp_path, capsys):
    files = [("a.png", encoded(picture(0), "PNG")), ("b.png", b"no picture"), ("a.jpg", encoded(picture(1)))]
    folder = write_folder(tmp_path / "photos", [*files, ("notes.txt", b"")])
    assert run(["segment", str(folder), "--out", str(tmp_path / "out"), *GRID]) == 0
    assert "left out: photo '" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.json")) == ["a_jpg.json", "a_png.json"]


def test_every_photo_has_a_record_of_its_own(tmp_path):
    names = ("a.jpg", "a.png", "a_jpg.jpg", "B.jpg", "b.png")
    for number, name in enumerate(names):
        kind = "PNG" if name.endswith("png") else "JPEG"
        write_folder(tmp_path / "photos", [(name, encoded(picture(number, (30, 40 + number)), kind))])
    assert run(["segment", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--no-picture", *GRID]) == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").iterdir()]
    assert {(r["image"]["file_name"], r["image"]["width"]) for r in records} == {
        (n, 40 + i) for i, n in enumerate(names)
    }
    assert json.loads((tmp_path / "out" / "a_jpg.json").read_text())["image"]["file_name"] == "a_jpg.jpg"


def test_results_beside_their_photos_are_not_read_as_photos(tmp_path, capsys):
    folder = write_folder(tmp_path / "photos", [(f"{n}.jpg", encoded(picture(n, (60, 80)))) for n in range(2)])
    command = ["segment", str(folder), "--out", str(folder), *GRID]
    assert run(command) == 0
    before = sorted(path.name for path in folder.iterdir())
    assert before == ["0.jpg", "0.json", "0_masks.jpg", "1.jpg", "1.json", "1_masks.jpg"]
    assert run([*command, "--overwrite"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == before
    source = open_source(folder)
    assert [source.record_name(number)[1] for number in range(len(source))] == ["0", "1"]


def test_a_photo_is_never_replaced_by_a_picture_of_masks(tmp_path, capsys):
    photos = [("a.jpg", encoded(picture(0))), ("a_masks.jpg", encoded(picture(1)))]
    folder = write_folder(tmp_path / "photos", photos)
    assert run(["segment", str(folder), "--out", str(folder), "--overwrite", *GRID]) == 2
    assert "a_masks.jpg would replace a photo: choose another --out" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict(photos)


def test_the_largest_photo_is_the_users_choice(cup, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "")  # restored at the end
    command = ["segment", str(cup), "--out", str(tmp_path / "out"), *GRID]
    assert run([*command, "--max-pixels", "1000"]) == 2
    assert "600x400 is more than 1,000 pixels; scale it down, or allow it with --max-pixels" in capsys.readouterr().err
    assert run([*command, "--max-pixels", "240000"]) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["none.jpg"], "does not exist"),
        (["."], "holds no photos"),
        (["photo.jpg", "--points-per-side", "0"], "points_per_side 0"),
        (["photo.jpg", "--pred-iou-thresh", "7"], "pred_iou_thresh 7"),
        (["photo.jpg", "--threads", "2"], "name one with --bundle"),
        (["photo.jpg", "--bundle", "b", "--checkpoint", "random:0"], "its own weights"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, reason, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    if arguments[0] == "photo.jpg":
        (tmp_path / "photo.jpg").write_bytes(encoded(picture(0)))
    assert run(["segment", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_small_masks_are_drawn_over_large_ones_and_nothing_else_is_changed():
    photo = np.full((40, 60, 3), 100, np.uint8)
    large, small = np.zeros((2, 40, 60), np.bool_)
    large[5:35, 5:55], small[10:20, 10:20] = True, True
    drawn = draw_all_masks(photo, iter([large, small]))
    assert (drawn[:4] == 100).all()
    assert len({tuple(drawn[y, x]) for y, x in ((30, 30), (15, 15), (2, 2))}) == 3
    assert draw_all_masks(np.zeros((300, 2000, 3), np.uint8), []).shape == (240, 1600, 3)
