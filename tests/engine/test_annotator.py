"""The simulated annotator at a server that answers HTTP, with a model whose masks are discs.

The disc model answers a first click with a disc of radius 60 and corrections with one of radius 40, so the clicks and
seconds of each object are known.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_edge.annotation.record import record_bytes, sa1b_record
from sam_edge.engine.annotator import NAME, SimulatedAnnotator
from sam_edge.engine.client import Client
from sam_edge.engine.habits import Habits
from sam_edge.engine.work import work_of_people
from sam_edge.serving.hosted_bundle import SERVER
from sam_edge.serving.job import HOST, AnnotationJob, ServeJob
from sam_edge.serving.page import Page
from sam_edge.serving.server import hosting
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.errors import DataError
from tests.serving.discs import write_disc_bundle

SIDE = 256
EXACT = Habits(jitter=0.0, missed=0.0)


def disc(x: int, y: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.hypot(columns - x, rows - y) <= radius


def bar() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[238:250, 20:220] = True
    return mask


# One click, two clicks, the brush; and one that nobody comes to, because the brush took more than 30 seconds.
OBJECTS = {"a": [disc(80, 80, 20), bar(), disc(80, 80, 60), disc(190, 180, 40)], "b": [disc(128, 128, 60)]}


def entry(mask: np.ndarray) -> dict:
    return {"segmentation": rle.encode(mask), "area": int(mask.sum())}


def write_masks(folder: Path, objects: dict[str, list[np.ndarray]]) -> Path:
    folder.mkdir()
    for number, (key, masks) in enumerate(objects.items()):
        record = sa1b_record(key, f"{key}.png", (SIDE, SIDE), [entry(mask) for mask in masks], number)
        (folder / f"{key}.json").write_bytes(record_bytes(record))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_disc_bundle(tmp_path_factory.mktemp("discs") / "bundle")


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, key in enumerate(OBJECTS):
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{key}.png")
    write_masks(tmp_path / "given", OBJECTS)
    return folder


@contextmanager
def served(bundle: Path, photos: Path, out: Path, existing: Path | None = None):
    job = ServeJob((bundle,), AnnotationJob(photos, out, existing), SERVER, HOST, 0, threads=1)
    with hosting(job, Page({})) as hosted:
        yield hosted


def drawn(out: Path, key: str) -> list[dict]:
    return json.loads((out / f"{key}.json").read_bytes())["annotations"]


def test_objects_come_by_size_and_actions_take_their_seconds(bundle, photos, tmp_path):
    out, done = tmp_path / "masks", []
    with served(bundle, photos, out) as hosted:
        client = Client(hosted.served.address)
        SimulatedAnnotator(client, photos.parent / "given", EXACT).work(lambda *count: done.append(count))
        statistics = client.get("api/statistics")
    assert done == [(1, 2), (2, 2)]
    masks = drawn(out, "a")
    assert [mask["sam_edge"]["seconds"] for mask in masks] == [5.0, 7.0, 34.0]
    assert [len(mask["point_coords"]) for mask in masks] == [1, 2, 5]
    assert [mask["sam_edge"]["source"] for mask in masks] == ["person"] * 3
    for mask, target in zip(masks, (disc(80, 80, 60), disc(190, 180, 40)), strict=False):
        found = rle.decode(mask["segmentation"])
        assert (found & target).sum() / (found | target).sum() >= EXACT.accepted
    assert np.array_equal(rle.decode(masks[2]["segmentation"]), bar())
    assert masks[0]["predicted_iou"] != 1.0
    image = json.loads((out / "a.json").read_bytes())["image"]["sam_edge"]
    assert (image["done"], image["seconds"]) == (True, 46.0)
    assert statistics["photos"]["done"] == 2
    assert statistics["annotators"] == [{"annotator": NAME, "masks": 4, "seconds_a_mask": 12.75}]
    work = work_of_people(hosted.session.files.figures.values(), out, 0.0)
    assert (work.photos, work.drawn, work.found, work.seconds) == (2, 4, 0, 51.0)
    assert work.masks_a_minute == pytest.approx(60 * 4 / 51)


class BrokenConnection(Client):
    """A connection that is lost with the second mask that it is to save."""

    saved = 0

    def post(self, path, **body):
        if path.endswith("/masks") and "segmentation" in body:
            self.saved += 1
            if self.saved == 2:
                raise DataError("lost")
        return super().post(path, **body)


def test_an_annotator_that_was_stopped_goes_on_as_if_it_had_not_been(bundle, photos, tmp_path):
    given = photos.parent / "given"
    habits = replace(EXACT, jitter=0.05)
    with served(bundle, photos, tmp_path / "whole") as hosted:
        client = Client(hosted.served.address)
        SimulatedAnnotator(client, given, habits).work()
    with (
        served(bundle, photos, tmp_path / "parts") as hosted,
        pytest.raises(DataError, match="lost"),
    ):
        SimulatedAnnotator(BrokenConnection(hosted.served.address), given, habits).work()
    assert len(drawn(tmp_path / "parts", "a")) == 1
    with served(bundle, photos, tmp_path / "parts") as hosted:
        client = Client(hosted.served.address)
        SimulatedAnnotator(client, given, habits).work()
    for key in OBJECTS:
        whole, parts = (drawn(tmp_path / name, key) for name in ("whole", "parts"))
        for mask in (*whole, *parts):
            mask["sam_edge"].pop("made")
        assert parts == whole


def test_in_the_semi_automatic_stage_only_the_rest_is_drawn(bundle, photos, tmp_path):
    existing = write_masks(tmp_path / "existing", {"a": [disc(82, 80, 60)], "b": []})
    with served(bundle, photos, tmp_path / "masks", existing) as hosted:
        client = Client(hosted.served.address)
        SimulatedAnnotator(client, photos.parent / "given", EXACT, more=True).work()
    sources = [(mask["sam_edge"]["source"], mask["sam_edge"]["seconds"]) for mask in drawn(tmp_path / "masks", "a")]
    assert sources == [("existing", None), ("person", 27.0), ("person", 54.0)]
    work = work_of_people(hosted.session.files.figures.values(), tmp_path / "masks", 1.0)
    assert (work.drawn, work.found) == (3, 1)
    assert work.seconds_a_mask == pytest.approx((27 + 54 + 25) / 3)


def test_missed_objects_get_no_mask_and_a_refusal_is_one_line(bundle, photos, tmp_path):
    with served(bundle, photos, tmp_path / "masks") as hosted:
        client = Client(hosted.served.address)
        SimulatedAnnotator(client, photos.parent / "given", replace(EXACT, missed=1.0)).work()
        with pytest.raises(DataError, match="refused api/queue/nobody/masks"):
            client.get("api/queue/nobody/masks")
    assert [drawn(tmp_path / "masks", key) for key in OBJECTS] == [[], []]
    with pytest.raises(DataError, match="does not answer"):
        client.get("api/queue")
