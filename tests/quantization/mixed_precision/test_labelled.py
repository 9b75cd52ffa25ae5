"""The loss on human masks: which photos are used, which prompts they get, and what is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam_edge.prediction.promptable import AnyCapacity
from sam_edge.quantization.calibration.photos import calibration_photos
from sam_edge.quantization.mixed_precision import labelled
from sam_edge.quantization.mixed_precision.labelled import PROMPTS, HumanMasks, LabelledSet, labelled_photos
from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.errors import DataError
from tests.data.builders import encoded, picture, record, write_tar
from tests.runtime.automatic import discs
from tests.runtime.standin import manifest

SIDE = discs.SIDE
OF_DISCS = manifest(input_side=SIDE, embedding_channels=4)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    """A mask of the frame's size."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.hypot(columns - x, rows - y) < radius


def photo_files(seed: int, masks: np.ndarray) -> list[tuple[str, bytes]]:
    pixels = encoded(picture(seed, (SIDE, SIDE)))
    return [(f"p{seed}.jpg", pixels), (f"p{seed}.json", json.dumps(record(masks)).encode())]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten photos with two discs each; the radius 20 is that of the decoder's third output."""
    files = []
    for seed in range(10):
        files += photo_files(seed, np.stack([disc(80 + seed, 90, 20), disc(170, 150 + seed, 20)]))
    return write_tar(tmp_path / "val.tar", files)


@pytest.fixture
def calibration(tmp_path: Path):
    """Two of the same photos, under other names and without masks."""
    folder = tmp_path / "calibration"
    folder.mkdir()
    for seed in (3, 7):
        (folder / f"other{seed}.jpg").write_bytes(encoded(picture(seed, (SIDE, SIDE))))
    return calibration_photos(folder)


def test_calibration_photos_are_left_out_by_their_content(data, calibration):
    chosen = labelled_photos(str(data), 40, calibration, 0.95)
    assert sorted(photo.key for photo in chosen.photos) == [f"p{seed}" for seed in (0, 1, 2, 4, 5, 6, 8, 9)]
    assert chosen.calibrated == 2
    assert chosen.to_json()["left_out"]["calibration_photos"] == 2
    assert "/" not in json.dumps(chosen.to_json()["photos"])
    again = labelled_photos(str(data), 40, calibration, 0.95)
    assert [photo.key for photo in again.photos] == [photo.key for photo in chosen.photos]


def test_a_photo_that_is_there_twice_and_photos_without_masks_are_left_out(tmp_path, calibration):
    files = []
    for seed in range(8):
        files += photo_files(seed, disc(80, 90, 20)[None] if seed else np.zeros((0, SIDE, SIDE), bool))
    twin = [(name.replace("p1", "twin"), content) for name, content in photo_files(1, disc(80, 90, 20)[None])]
    data = write_tar(tmp_path / "val.tar", files + twin)
    chosen = labelled_photos(str(data), 40, replace(calibration, photos=()), 0.95)
    assert (len(chosen.photos), chosen.repeated, chosen.without_masks) == (7, 1, 1)


def test_too_few_photos_for_the_confidence_are_refused_with_the_number_needed(data, calibration):
    assert len(labelled_photos(str(data), 40, calibration, 0.99).photos) == 8
    with pytest.raises(DataError, match=r"has 8 photos .* \(2 are calibration photos\), too few .* 0\.999: .* 11"):
        labelled_photos(str(data), 40, calibration, 0.999)


def test_data_without_masks_are_refused(tmp_path, calibration):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.jpg").write_bytes(encoded(picture(0)))
    with pytest.raises(DataError, match="photos without masks: name data with masks"):
        labelled_photos(str(tmp_path / "plain"), 40, calibration, 0.95)


def human_masks(data: Path, calibration, points: int | None = None) -> HumanMasks:
    capacity = replace(OF_DISCS, points=points, prompts=None if points is None else 1)
    return HumanMasks(labelled_photos(str(data), 40, calibration, 0.95), capacity, 0.95)


class SmallerDiscs(discs.DiscBackend):
    """Every disc four pixels smaller, and the same outputs chosen."""

    def decode(self, *inputs):
        low_res, iou, _ = super().decode(*inputs)
        return Decoded(low_res - 8.0, iou)


class BestOutput(discs.DiscBackend):
    """Output 0 is a disc of radius 20, and so is the one of 1..3 with the highest predicted IoU."""

    def decode(self, *inputs):
        low_res, iou, _ = super().decode(*inputs)
        return Decoded(low_res[:, [2, 1, 2, 3]], iou[:, [0, 2, 1, 3]])


def test_the_loss_is_that_of_the_shown_masks(data, calibration):
    human = human_masks(data, calibration)
    scores = human.measure_reference(BestOutput(), AnyCapacity((FrameSize.square(SIDE),)), 60.0)
    assert [len(each) for each in scores] == [6] * 8  # two masks, and three kinds of prompts for each
    clicks = np.array(scores)[:, 2:]  # boxes come first; the stand-in draws discs at their corner
    assert clicks.min() > 0.9  # both kinds of clicks begin at the disc's centre
    assert np.array(scores)[:, :2].max() < 0.3
    same = human(BestOutput())
    assert (same.loss, same.low, same.high) == (0.0, 0.0, 0.0)
    worse = human(SmallerDiscs())
    assert worse.loss > 0.2
    assert worse.low > 0.1
    assert worse.photos == 8
    assert worse.prompts == 48


def test_scores_of_an_interrupted_search_are_taken_instead_of_measured_again(data, calibration):
    stored = human_masks(data, calibration).measure_reference(
        BestOutput(), AnyCapacity((FrameSize.square(SIDE),)), 60.0
    )[:5]
    human = human_masks(data, calibration)
    assert human.measure_reference(None, AnyCapacity((FrameSize.square(SIDE),)), 60.0, stored) == stored
    lost = human(BestOutput())
    assert (lost.loss, lost.photos) == (0.0, 5)


def test_little_time_means_fewer_photos_but_never_too_few(data, calibration, monkeypatch):
    monkeypatch.setattr(labelled, "FEWEST", 3)
    scores = human_masks(data, calibration).measure_reference(BestOutput(), AnyCapacity((FrameSize.square(SIDE),)), 0.0)
    assert len(scores) == 6  # what the confidence of 0.95 needs


def test_a_decoder_with_few_slots_gets_the_prompts_that_fit(data, calibration):
    human = human_masks(data, calibration, points=2)
    scores = human.measure_reference(BestOutput(), AnyCapacity((FrameSize.square(SIDE),)), 60.0)
    assert [len(each) for each in scores] == [4] * 8  # boxes and single clicks
    assert human(BestOutput()).loss == 0.0


def test_of_many_masks_each_gets_one_prompt(tmp_path, calibration):
    files = []
    for seed in range(6):
        masks = [disc(20 + 40 * (place % 5), 20 + 40 * (place // 5), 8 + place % 3) for place in range(20)]
        files += photo_files(seed, np.stack(masks))
    chosen: LabelledSet = labelled_photos(str(write_tar(tmp_path / "many.tar", files)), 40, calibration, 0.9)
    human = HumanMasks(chosen, OF_DISCS, 0.9)
    scores = human.measure_reference(BestOutput(), AnyCapacity((FrameSize.square(SIDE),)), 60.0)
    assert {len(each) for each in scores} == {PROMPTS}
