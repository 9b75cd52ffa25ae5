"""Calibration: the choice of photos, its record, and the calls on them."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam_edge.data.sample_photos import PHOTOS
from sam_edge.quantization.calibration.calls import calibration_calls
from sam_edge.quantization.calibration.photos import CalibrationSet, calibration_photos
from sam_edge.quantization.calibration.prompts import KINDS, LABELS, OBJECTS, draw_prompts
from sam_edge_runtime.arrays import Call, Decoded, Features, Float32
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.bundle.contract import FrameSize, Label
from sam_edge_runtime.bundle.manifest import Checkpoint, Manifest
from sam_edge_runtime.errors import DataError, UsageError
from sam_edge_runtime.photo.frame import Frame
from tests.data import builders

SIDE, CHANNELS = 256, 8
LOW_RES = SIDE // 4


def manifest(prompts: int | None = None, points: int | None = None, batches: tuple[int, ...] = ()) -> Manifest:
    return Manifest(
        variant="nano",
        parameters=1,
        licence="Apache-2.0",
        checkpoint=Checkpoint("random:0", None, random=True),
        target="onnx",
        precision="fp32",
        recipe={},
        input_side=SIDE,
        embedding_channels=CHANNELS,
        prompts=prompts,
        points=points,
        encoder="encoder.onnx",
        decoder="decoder.onnx",
        files={},
        batches=batches,
    )


class StandIn:
    """A model that counts; its masks are constants computed from the prompt, and output 2 has the highest IoU."""

    engine = "stand-in"

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, image: Float32) -> Features:
        self.encoded += 1
        return (np.full((1, CHANNELS, SIDE // 16, SIDE // 16), image.mean(), np.float32),)

    def decode(self, features: Features, coords: Float32, labels: Float32, *_: Float32) -> Decoded:
        numbers = coords.sum(axis=(1, 2))[:, None] + np.arange(4, dtype=np.float32)
        iou = np.tile(np.array([0.1, 0.2, 0.9, 0.3], np.float32), (len(coords), 1))
        masks = np.broadcast_to(numbers[:, :, None, None], (len(coords), 4, LOW_RES, LOW_RES))
        return Decoded(masks.copy(), iou)


def keys(photos: CalibrationSet) -> list[str]:
    return [photo.key for photo in photos.photos]


def two_tars(folder: Path) -> Path:
    builders.write_tar(folder / "a.tar", builders.pairs(20, prefix="a"))
    builders.write_tar(folder / "b.tar", builders.pairs(4, start=20, prefix="b"))
    return folder


def test_photos_are_spread_over_shards_and_within_each(tmp_path):
    chosen = calibration_photos(two_tars(tmp_path), 8)
    assert keys(chosen) == ["a2", "a7", "a12", "a17", "b20", "b21", "b22", "b23"]
    assert {photo.shard for photo in chosen.photos} == {"a.tar", "b.tar"}


def test_other_shards_compensate_for_a_short_one(tmp_path):
    chosen = calibration_photos(f"{two_tars(tmp_path)}/{{a,b}}.tar", 12)
    assert sum(photo.shard == "b.tar" for photo in chosen.photos) == 4
    assert sum(photo.shard == "a.tar" for photo in chosen.photos) == 8
    assert len(set(keys(chosen))) == 12


def test_of_more_shards_than_photos_evenly_spaced_ones_are_opened(tmp_path):
    for number in range(9):
        builders.write_tar(tmp_path / f"{number}.tar", builders.pairs(3, start=3 * number))
    (tmp_path / "0.tar").write_bytes(b"never opened")
    chosen = calibration_photos(tmp_path, 3)
    assert [photo.shard for photo in chosen.photos] == ["1.tar", "4.tar", "7.tar"]


def test_the_choice_and_its_record_depend_only_on_the_files(tmp_path):
    there = two_tars(tmp_path / "there")
    elsewhere = Path(shutil.copytree(there, tmp_path / "elsewhere" / "deeper"))
    first, second = calibration_photos(there, 7), calibration_photos(elsewhere, 7)
    assert first.to_json() == second.to_json()
    assert str(tmp_path) not in json.dumps(first.to_json())
    assert [photo.seed for photo in first.photos] == [photo.seed for photo in second.photos]


def test_the_record_names_hashes_and_counts(tmp_path):
    content = builders.encoded(builders.picture(1))
    (tmp_path / "one.jpg").write_bytes(content)
    (tmp_path / "two.png").write_bytes(b"no picture")
    record = calibration_photos(tmp_path, 5).to_json()
    (photo,), (skipped,) = record["photos"], record["skipped"]
    assert (record["source"], record["requested"], record["used"]) == ("photos", 5, 1)
    assert photo == {"shard": tmp_path.name, "key": "one", "sha256": hashlib.sha256(content).hexdigest()}
    assert (skipped["shard"], skipped["key"]) == (tmp_path.name, "two")
    assert "no picture" in skipped["reason"]


def test_a_broken_photo_is_skipped_and_replaced(tmp_path):
    files = builders.pairs(10)
    files[4] = (files[4][0], files[4][1][:300])  # the photo of sa_2
    builders.write_tar(tmp_path / "a.tar", files)
    chosen = calibration_photos(tmp_path / "a.tar", 2)
    assert keys(calibration_photos(builders.write_tar(tmp_path / "whole.tar", builders.pairs(10)), 2)) == [
        "sa_2",
        "sa_7",
    ]
    assert [skip.key for skip in chosen.skipped] == ["sa_2"]
    assert len(chosen) == 2
    assert "sa_2" not in keys(chosen)
    assert chosen.to_json()["source"] == "shards"


def test_only_unreadable_photos_are_refused_in_one_line(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(UsageError, match="none of the 2 photos in ") as caught:
        calibration_photos(tmp_path)
    line = str(caught.value)
    assert "\n" not in line
    assert "can be read for calibration; the first: a in " in line


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_a_missing_or_empty_folder_is_named(what, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=what):
        calibration_photos(tmp_path / what)


def test_fewer_than_one_photo_is_refused(tmp_path):
    with pytest.raises(UsageError, match="0 calibration photos are too few"):
        calibration_photos(tmp_path, 0)


def test_photos_are_read_when_their_pixels_are_needed(tmp_path):
    chosen = calibration_photos(two_tars(tmp_path), 4)
    assert chosen.photos[0].read().photo.shape == (*builders.SIZE, 3)
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError):
        chosen.photos[0].read()
    assert chosen.photos[3].read().rles


def test_without_a_source_the_sample_photos_are_used():
    pytest.importorskip("skimage")
    chosen = calibration_photos(None)
    assert keys(chosen) == [Path(name).stem for name in PHOTOS]
    assert chosen.to_json()["source"] == "sample photos"
    assert not chosen.skipped


def test_clicks_and_boxes_are_those_of_a_large_and_a_small_mask():
    masks = builders.rectangles(0, 5)
    drawn = draw_prompts(builders.sample(builders.picture(0), masks), seed=0)
    for which, mask in enumerate((masks[1], masks[3])):  # of five, ordered by area
        y, x = drawn.clicks[which].astype(int).T[::-1]
        np.testing.assert_array_equal(mask[y, x], np.array(LABELS) == Label.FOREGROUND)
        rows, columns = np.nonzero(mask)
        wide = columns.max() > columns.min()
        assert drawn.boxes[which, 0] == columns.min()
        assert drawn.boxes[which, 2] == pytest.approx(columns.max() if wide else columns.min(), abs=1e-2)
        assert drawn.boxes[which, 1] == rows.min()


def test_without_masks_boxes_lie_anywhere_and_clicks_inside_them():
    boxes = []
    for seed in range(20):
        drawn = draw_prompts(builders.sample(builders.picture(0), np.zeros((0, *builders.SIZE), bool)), seed)
        corner, far = drawn.boxes[:, None, :2], drawn.boxes[:, None, 2:]
        inside = drawn.clicks[:, np.array(LABELS) == Label.FOREGROUND]
        assert ((corner <= inside) & (inside <= far)).all()
        assert (drawn.boxes >= 0).all()
        assert (drawn.boxes[:, 2:] <= [builders.SIZE[1], builders.SIZE[0]]).all()
        boxes.append(drawn.boxes)
    areas = np.prod(np.stack(boxes)[:, :, 2:] - np.stack(boxes)[:, :, :2], axis=-1)
    assert areas[:, 0].min() > areas[:, 1].max()


def decoder_calls(tmp_path: Path, capacity: Manifest, count: int = 2) -> list[Call]:
    photos = calibration_photos(two_tars(tmp_path), count)
    with calibration_calls(photos, StandIn(), manifest()) as calls:
        return list(calls.decoder(capacity))


CAPACITIES = {
    "any": manifest(),
    "one prompt of ten": manifest(1, 10),
    "eight of ten": manifest(8, 10),
    "one or eight of ten": manifest(8, 10, batches=(1, 8)),
    "any number of ten": manifest(None, 10),
    "one of any length": manifest(1, None),
}


@pytest.mark.parametrize("name", CAPACITIES)
def test_decoder_calls_hold_every_kind_of_prompt_and_fit_the_capacity(name, tmp_path):
    capacity = CAPACITIES[name]
    calls = decoder_calls(tmp_path, capacity)
    sizes = {len(call["point_labels"]) for call in calls}
    assert sizes >= set(capacity.call_sizes)
    seen: set[tuple[int, bool, bool]] = set()
    for call in calls:
        rows, slots = call["point_labels"].shape
        assert rows in (capacity.call_sizes or range(1, 17))
        assert capacity.points in (None, slots)
        assert {spec: array.shape for spec, array in call.items()} == {
            "image_embeddings": (1, CHANNELS, SIDE // 16, SIDE // 16),
            "point_coords": (rows, slots, 2),
            "point_labels": (rows, slots),
            "mask_input": (rows, 1, LOW_RES, LOW_RES),
            "has_mask_input": (rows,),
        }
        assert all(array.dtype == np.float32 for array in call.values())
        for labels, has_mask in zip(call["point_labels"], call["has_mask_input"], strict=True):
            clicks = int(np.isin(labels, (Label.FOREGROUND, Label.BACKGROUND)).sum())
            seen.add((clicks, bool((labels == Label.BOX_TOP_LEFT).any()), bool(has_mask)))
    assert seen == {(kind.clicks, kind.box, kind.mask) for kind in KINDS.values()}
    every_label = np.concatenate([call["point_labels"].ravel() for call in calls])
    assert set(every_label) == {float(label) for label in Label}


def test_free_axes_get_mixed_sizes(tmp_path):
    shapes = {call["point_labels"].shape for call in decoder_calls(tmp_path, manifest())}
    assert {slots for _, slots in shapes} >= {kind.slots for kind in KINDS.values()}
    assert len({rows for rows, _ in shapes}) > 1


def test_a_decoder_of_few_slots_gets_the_kinds_that_fit(tmp_path):
    calls = decoder_calls(tmp_path, manifest(1, 2), count=1)
    fitting = [kind for kind in KINDS.values() if kind.slots <= 2]
    assert len(calls) == OBJECTS * len(fitting)
    assert {float(call["has_mask_input"][0]) for call in calls} == {0.0, 1.0}


def test_the_slots_of_a_kind_are_those_of_its_prompts():
    photo = builders.sample(builders.picture(0), builders.rectangles(0))
    masks = np.zeros((OBJECTS, 1, LOW_RES, LOW_RES), np.float32)
    for kind in KINDS.values():
        prompts = draw_prompts(photo, 0).prompts(Frame(FrameSize.square(SIDE), builders.SIZE), kind, masks)
        assert prompts.coords.shape == (OBJECTS, kind.slots, 2)


def test_mask_prompts_are_the_best_masks_of_the_boxes(tmp_path):
    calls = decoder_calls(tmp_path, manifest(1, 10), count=1)
    only_box = [
        call["point_coords"]
        for call in calls
        if set(call["point_labels"].ravel()) == {-2.0, 2.0, 3.0} and not call["has_mask_input"][0]
    ]
    expected = sorted(float(coords.sum()) + 2 for coords in only_box)
    actual = sorted({float(call["mask_input"][0, 0, 0, 0]) for call in calls if call["has_mask_input"][0]})
    assert actual == pytest.approx(expected)


def test_photos_are_encoded_once_for_any_number_of_passes(tmp_path):
    photos, model = calibration_photos(two_tars(tmp_path), 3), StandIn()
    with calibration_calls(photos, model, manifest()) as calls:
        first = list(calls.decoder(manifest(1, 10)))
        again = list(calls.decoder(manifest(1, 10)))
        list(calls.decoder(manifest()))
        folder = calls._folder
        assert folder.is_dir()
    assert model.encoded == 3
    assert not folder.exists()
    assert len(first) == len(again) == 3 * OBJECTS * len(KINDS)
    for one, other in zip(first, again, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_encoder_calls_are_the_photos_in_their_frames(tmp_path):
    photos = calibration_photos(two_tars(tmp_path), 2)
    with calibration_calls(photos, StandIn(), manifest()) as calls:
        made = list(calls.encoder())
    for call, photo in zip(made, photos.photos, strict=True):
        np.testing.assert_array_equal(
            call["image"], Frame(FrameSize.square(SIDE), builders.SIZE).image(photo.read().photo)
        )


def test_the_same_calls_are_made_on_every_run(tmp_path):
    one = decoder_calls(tmp_path / "one", manifest(1, 10))
    other = decoder_calls(tmp_path / "other", manifest(1, 10))
    for left, right in zip(one, other, strict=True):
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])


def test_masks_that_cover_everything_or_nothing_make_prompts_too():
    everything = np.ones((1, *builders.SIZE), bool)
    drawn = draw_prompts(builders.sample(builders.picture(0), everything), 0)
    assert np.isfinite(drawn.clicks).all()
    nothing = replace(builders.sample(builders.picture(0), everything), rles=(rle.encode(~everything[0]),))
    assert draw_prompts(nothing, 0).boxes.shape == (OBJECTS, 4)
