"""A round's photos: each once, made smaller, without near-duplicates and photos that have nothing to draw."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import open_source
from sam_edge.data.stream import walk
from sam_edge.engine.folder import RoundFolder
from sam_edge.engine.queue import Intake, fill_queue
from sam_edge_runtime.errors import DataError
from tests.data.builders import encoded, record, write_tar

from .scenes import scene


@pytest.fixture
def source(tmp_path):
    files = []
    for seed in range(6):
        photo, masks = scene(seed)
        files += [(f"s.{seed}.jpg", encoded(photo)), (f"s.{seed}.json", json.dumps(record(masks)).encode())]
    photo, masks = scene(0)  # once more, compressed harder
    files += [("again.jpg", encoded(photo, quality=70)), ("again.json", json.dumps(record(masks)).encode())]
    empty = json.dumps(record(masks[:0])).encode()
    files += [("empty.jpg", encoded(scene(20)[0])), ("empty.json", empty)]
    files += [("broken.jpg", b"\xff\xd8"), ("broken.json", json.dumps(record(masks)).encode())]
    return open_source(write_tar(tmp_path / "in.tar", files))


def folders(tmp_path) -> tuple[RoundFolder, ...]:
    return tuple(RoundFolder(tmp_path / f"{number}", number, "manual") for number in (1, 2, 3))


def test_rounds_take_each_photo_once_and_say_what_they_left_out(source, tmp_path):
    rounds = folders(tmp_path)
    intake = Intake(source, 4, 72, masks=True, seed=0)
    queues = [fill_queue(intake, each, rounds[:number]) for number, each in enumerate(rounds[:2])]
    taken = [key for queue in queues for key in queue["photos"]]
    left = {key for queue in queues for key in (*queue["duplicates"], *queue["left_out"])}
    assert len(taken) == len(set(taken)) == 6
    assert set(taken) | left == {*(f"s_{seed}" for seed in range(6)), "again", "empty", "broken"}
    duplicates = {key: other for queue in queues for key, other in queue["duplicates"].items()}
    assert {frozenset(pair) for pair in duplicates.items()} == {frozenset({"s_0", "again"})}
    reasons = {key: why for queue in queues for key, why in queue["left_out"].items()}
    assert reasons["empty"] == "it has no masks to draw from"
    assert reasons.keys() == {"empty", "broken"}
    assert fill_queue(intake, rounds[0], ()) == queues[0]  # it is there
    with pytest.raises(DataError, match="no photo left for round 3"):
        fill_queue(intake, rounds[2], rounds[:2])
    assert not rounds[2].queue.exists()


def test_photos_and_given_masks_have_the_smaller_size(source, tmp_path):
    (folder, *_) = folders(tmp_path)
    fill_queue(Intake(source, 3, 72, masks=True, seed=1), folder, ())
    samples = list(walk(open_source(folder.queue / "photos"), SkipLog()))
    assert [sample.size for sample in samples] == [(72, 96)] * 3
    for sample in samples:
        document = json.loads((folder.queue / "given" / f"{sample.key}.json").read_bytes())
        assert [document["image"]["height"], document["image"]["width"]] == [72, 96]
        assert all(each["segmentation"]["size"] == [72, 96] for each in document["annotations"])
        assert np.sum([each["area"] for each in document["annotations"]]) > 100
