"""The annotation tool in Chromium: one person, several on one queue, and a session that is trained from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sam_edge.cli.app import run
from sam_edge.data.sample_photos import copy_samples
from sam_edge.serving.page import STATIC
from sam_edge_runtime.automatic import rle

from .builders import mask
from .chromium import SAMPLES, SCREENSHOTS, drive, why_no_page
from .discs import write_disc_bundle
from .running import SHORT_LEASES, running

pytestmark = pytest.mark.skipif(why_no_page() is not None, reason=str(why_no_page()))

RECIPE = """
model = "nano"
data = ["."]
seed = 1
learning_rate = 1e-3
loss = "ritm"
[[phases]]
steps = 2
side = 256
photos = 2
masks = 2
interactions = 2
"""


@pytest.fixture(scope="module")
def discs(tmp_path_factory) -> Path:
    return write_disc_bundle(tmp_path_factory.mktemp("bundles") / "discs")


def records_of(folder: Path) -> list[dict]:
    return [
        json.loads(path.read_text())
        for path in sorted(folder.glob("*.json"))
        if not path.name.startswith(".") and "annotations" in path.read_text()
    ]


def test_annotation_by_one_person(discs: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "masks"
    copy_samples(photos)
    with running(STATIC, discs, "--annotate", photos, "--out", out, "--port", "0") as server:
        drive("annotate.mjs", server.address, SCREENSHOTS)
    records = records_of(out)
    assert len(records) == len(list(photos.iterdir()))
    assert all(each["annotations"] for each in records)
    names = [each["sam_edge"].get("name") for record in records for each in record["annotations"]]
    assert names.count("thing") == 1


@pytest.mark.slow
def test_three_people_on_one_queue_that_begins_with_masks(discs: Path, tmp_path: Path) -> None:
    photos, existing, out = tmp_path / "photos", tmp_path / "found", tmp_path / "masks"
    photos.mkdir()
    existing.mkdir()
    height, width = 160, 240
    for number, name in enumerate("abcd"):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{name}.png")
        found = mask(150, 90, 60, 50, (height, width))
        image = {"image_id": number, "width": width, "height": height, "file_name": f"{name}.png"}
        annotation = {"id": number, "segmentation": found, "area": 3000, "bbox": [150, 90, 59, 49]}
        scores = {"predicted_iou": 0.95, "stability_score": 0.97, "point_coords": [[180, 110]]}
        crop = {"crop_box": [0, 0, width, height]}
        record = {"image": image, "annotations": [annotation | scores | crop]}
        (existing / f"{name}.json").write_text(json.dumps(record))
    options = ("--annotate", photos, "--existing", existing, "--out", out, "--port", "0")
    with running(STATIC, discs, *options, short_leases=True) as server:
        drive("shared.mjs", server.address, str(SHORT_LEASES))
    records = records_of(out)
    made_by = [[each["sam_edge"]["annotator"] for each in record["annotations"]] for record in records]
    # The mask that was there, then one of whoever did the photo.
    assert made_by == [[None, "Ada"], [None, "Edsger"], [None, "Edsger"], [None, "Grace"]]
    sources = [[each["sam_edge"]["source"] for each in record["annotations"]] for record in records]
    assert sources == [["existing", "person"]] * 4
    assert all(record["image"]["sam_edge"]["done"] for record in records)


@pytest.mark.slow
def test_a_session_of_five_photos_is_read_by_train_evaluate_and_pycocotools(tmp_path: Path, monkeypatch) -> None:
    from pycocotools import mask as coco

    from sam_edge.serving.default_bundle import default_bundle

    nano = default_bundle(lambda stage, done, total: None)
    photos, out = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir()
    for path in sorted(SAMPLES.glob("*.jpg")):
        (photos / path.name).write_bytes(path.read_bytes())
    with Image.open(photos / "coffee.jpg") as picture:
        ImageOps.mirror(picture).save(photos / "coffee_mirrored.jpg", quality=90)
    names = sorted(path.name for path in photos.iterdir())
    assert len(names) == 5
    for part in ("first", "second"):  # closed and gone on with, by another server
        with running(STATIC, nano, "--annotate", photos, "--out", out, "--port", "0") as server:
            drive("session.mjs", server.address, part)
            assert server.stop() == 0

    records = records_of(out)
    assert [record["image"]["file_name"] for record in records] == names
    assert [len(record["annotations"]) for record in records] == [2, 2, 1, 1, 1]
    named = {each["sam_edge"]["name"] for record in records for each in record["annotations"]}
    assert named == {"whole thing", "boxed thing", "painted", None}
    for record in records:
        assert record["image"]["sam_edge"]["done"]
        assert record["image"]["sam_edge"]["seconds"] > 0
        for each in record["annotations"]:
            decoded = coco.decode(each["segmentation"]).astype(bool)
            np.testing.assert_array_equal(decoded, rle.decode(each["segmentation"]))
            assert decoded.shape == (record["image"]["height"], record["image"]["width"])
            assert decoded.sum() == each["area"] > 0

    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    train = ["train", "recipe.toml", "--data", str(out), "--out", "run", "--workers", "0", "--picture-every", "0"]
    assert run(train) == 0
    losses = [json.loads(line) for line in (tmp_path / "run" / "losses.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert all(np.isfinite(value) for line in losses for value in line.values())
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert run(["evaluate", "--data", str(out), "--bundle", str(nano), "--out", "report"]) == 0
    assert any((tmp_path / "report").iterdir())
