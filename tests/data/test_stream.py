"""Training examples by number, one pass over all records, and unusable records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from sam_edge.data.augment import Augmentation
from sam_edge.data.mixture import Mixture, of_sources
from sam_edge.data.order import ROUND, Steps
from sam_edge.data.sa1b import MaskFilter
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import open_source
from sam_edge.data.stream import ATTEMPTS, Example, TrainingSet, walk
from sam_edge_runtime.errors import DataError
from tests.data.builders import (
    SIZE,
    encoded,
    exif_of,
    pair,
    pairs,
    picture,
    record,
    rectangles,
    write_folder,
    write_tar,
)
from tests.data.real import real_data

AUGMENTATION = Augmentation(32, min_pixels=1)


def training_set(*paths, seed: int = 0, **options) -> TrainingSet:
    return TrainingSet(of_sources(*map(open_source, paths)), AUGMENTATION, seed, **options)


def fingerprint(example: Example) -> tuple[object, ...]:
    crop = example.crop
    return example.number, crop.source, crop.key, crop.image.tobytes(), crop.masks.tobytes(), example.seen


@pytest.fixture
def shards(tmp_path):
    for shard in range(3):
        write_tar(tmp_path / "shards" / f"{shard}.tar", pairs(4 + shard, start=100 * shard))
    return tmp_path / "shards"


# Walking ------------------------------------------------------------------------------------------------------------


def test_a_walk_gives_every_record_once_with_its_masks(shards):
    log = SkipLog()
    samples = {sample.key: sample for sample in walk(open_source(shards), log)}
    assert len(samples) == log.seen == 15
    for key, sample in samples.items():
        np.testing.assert_array_equal(sample.masks(), rectangles(int(key[3:])))
        assert np.abs(sample.photo.astype(int) - picture(int(key[3:]))).mean() < 6  # JPEG
        assert Path(sample.source).parent == shards


def test_folders_and_tars_give_the_same_samples(tmp_path):
    a = walk(open_source(write_tar(tmp_path / "a.tar", pairs(4))), SkipLog())
    b = walk(open_source(write_folder(tmp_path / "b", pairs(4))), SkipLog())
    for one, other in zip(a, b, strict=True):
        assert (one.key, one.rles) == (other.key, other.rles)
        np.testing.assert_array_equal(one.photo, other.photo)


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_the_parts_of_a_walk_are_complete(shards, parts):
    source = open_source(shards)
    keys = [s.key for part in range(parts) for s in walk(source, SkipLog(), part=part, parts=parts)]
    assert sorted(keys) == sorted(s.key for s in walk(source, SkipLog()))


def test_a_walk_filters_masks_and_keeps_records(shards):
    masks = [len(s.rles) for s in walk(open_source(shards), SkipLog(), wanted=MaskFilter(min_area=0.2))]
    assert masks == [1] * 15
    with pytest.raises(DataError, match=r"15 records .* covers at least 30\.000% of its photo: lower"):
        list(walk(open_source(shards), SkipLog(), wanted=MaskFilter(min_area=0.3)))


def test_records_without_masks_are_named_as_such(tmp_path):
    files = [pair("a", 0)[0], ("a.json", json.dumps({**record(rectangles(0)), "annotations": []}).encode())]
    with pytest.raises(DataError, match=r"the records of .*a\.tar have no masks: name other data"):
        list(walk(open_source(write_tar(tmp_path / "a.tar", files)), SkipLog()))


def test_photos_without_masks_are_walked_too(shards, tmp_path):
    assert all(not s.rles for s in walk(open_source(shards), SkipLog(), photos_only=True))
    folder = write_folder(tmp_path / "photos", [("a.jpg", encoded(picture(0))), ("b.png", encoded(picture(1), "PNG"))])
    samples = list(walk(open_source(folder), SkipLog()))
    assert [s.key for s in samples] == ["a", "b"]
    np.testing.assert_array_equal(samples[1].photo, picture(1))


def test_photos_without_masks_stand_upright(tmp_path):
    turned = encoded(picture(0), exif=exif_of(6))
    alone = open_source(write_folder(tmp_path / "alone", [("a.jpg", turned)]))
    assert next(walk(alone, SkipLog())).size == SIZE[::-1]
    annotated = open_source(write_folder(tmp_path / "annotated", [("a.jpg", turned), pair("a", 0)[1]]))
    assert next(walk(annotated, SkipLog(), photos_only=True)).size == SIZE[::-1]


# Broken records -----------------------------------------------------------------------------------------------------

PHOTO, JSON = pair("bad", 0)
BROKEN = {
    "truncated JPEG": ([("bad.jpg", PHOTO[1][:300]), JSON], "truncated or damaged"),
    "no JPEG": ([("bad.jpg", b"nothing"), JSON], "no picture"),
    "empty JPEG": ([("bad.jpg", b""), JSON], "empty"),
    "missing photo": ([JSON], "photo is missing"),
    "missing JSON": ([PHOTO], "JSON is missing"),
    "damaged JSON": ([PHOTO, ("bad.json", JSON[1][:50])], "JSON is truncated"),
    "damaged RLE": (
        [
            PHOTO,
            ("bad.json", json.dumps(record(rectangles(0), segmentation={"size": list(SIZE), "counts": "P"})).encode()),
        ],
        "RLE is damaged",
    ),
    "RLE of another size": (
        [PHOTO, ("bad.json", json.dumps(record(rectangles(0), segmentation={"size": [3, 4], "counts": "<"})).encode())],
        r"size \[3, 4\]",
    ),
    "JSON of another photo": (
        [PHOTO, ("bad.json", json.dumps(record(rectangles(0, size=(20, 20)))).encode())],
        r"size \[30, 40\], and its JSON says \[20, 20\]",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_a_broken_record_is_skipped_counted_and_named(tmp_path, name, kind):
    files, says = BROKEN[name]
    files = [*pairs(3), *files, *pairs(3, start=10)]
    what = write_tar(tmp_path / "a.tar", files) if kind == "tar" else write_folder(tmp_path / "a", files)
    source, log = open_source(what), SkipLog(0.2)
    assert len(list(walk(source, log))) == 6
    assert (log.seen, log.skipped) == (7, 1)
    (skip,) = log.names
    assert (skip.key, skip.source) == ("bad", str(what))
    assert re.search(says, skip.reason), skip.reason

    examples = training_set(what)
    drawn = [examples[number] for number in range(2 * len(source))]
    assert all(example.crop.key != "bad" for example in drawn)
    met = [skip for example in drawn for skip in example.skipped]
    assert len(met) >= 2  # once in each epoch, and perhaps in its own stead
    assert set(met) == {skip}
    assert sum(example.seen for example in drawn) == len(drawn) + len(met)
    log = SkipLog(0.0)
    with pytest.raises(DataError, match="bad in"):
        log.add(100, drawn[0].skipped or met)


def test_too_many_broken_records_stop_a_walk(tmp_path):
    bad = [(f"bad{n}{name[3:]}", content) for n in range(2) for name, content in BROKEN["truncated JPEG"][0]]
    files = [*pairs(2), *bad]
    with pytest.raises(DataError, match=r"2 of 4 records could not be used, more than 5\.0%: .*: bad0 in"):
        list(walk(open_source(write_tar(tmp_path / "a.tar", files)), SkipLog()))


def test_a_source_of_broken_records_stops_training(tmp_path):
    files = [file for n in range(4) for file in ((f"{n}.jpg", b"x"), (f"{n}.json", JSON[1]))]
    examples = training_set(write_tar(tmp_path / "a.tar", files))
    for draw in (lambda: examples[0], examples.probe):
        with pytest.raises(DataError, match=f"{ATTEMPTS} records of .*a.tar in a row") as error:
            draw()
        assert "\n" not in str(error.value)


def test_no_masks_above_the_area_filter_stop_training(shards):
    with pytest.raises(DataError, match=r"none of 64 .* has a mask that covers at least 50\.000% of its photo"):
        training_set(shards, wanted=MaskFilter(min_area=0.5)).probe()


def test_photos_without_masks_are_no_training_data_for_masks(tmp_path):
    folder = write_folder(tmp_path / "photos", [("a.jpg", encoded(picture(0)))])
    with pytest.raises(DataError, match="photos without masks"):
        training_set(folder)
    example = training_set(folder, photos_only=True)[0]
    assert example.crop.masks.shape == (0, 32, 32)
    assert example.crop.image.shape == (3, 32, 32)


def test_a_probe_tries_every_source(shards, tmp_path):
    bad = write_tar(tmp_path / "bad.tar", [("0.jpg", b"x"), ("0.json", JSON[1])])
    mixture = Mixture((open_source(shards), open_source(bad)), (0.98, 0.02))
    with pytest.raises(DataError, match=r"bad\.tar in a row"):
        TrainingSet(mixture, AUGMENTATION, 0).probe()
    assert training_set(shards).probe() == ()


# Training examples --------------------------------------------------------------------------------------------------


def test_the_seed_determines_the_examples(shards):
    first, again, other = (training_set(shards, seed=seed) for seed in (0, 0, 1))
    assert [fingerprint(first[n]) for n in range(40)] == [fingerprint(again[n]) for n in range(40)]
    assert [fingerprint(first[n]) for n in range(15)] != [fingerprint(other[n]) for n in range(15)]
    assert [first[n].crop.key for n in range(15)] != [other[n].crop.key for n in range(15)]


def test_every_epoch_has_all_records_in_other_views(shards):
    examples = training_set(shards)
    epochs = [[examples[epoch * 15 + place] for place in range(15)] for epoch in range(2)]
    keys = [[example.crop.key for example in epoch] for epoch in epochs]
    assert len(set(keys[0])) == len(set(keys[1])) == 15
    assert keys[0] != keys[1]
    images = [{example.crop.key: example.crop.image for example in epoch} for epoch in epochs]
    assert not any(np.array_equal(images[0][key], images[1][key]) for key in images[0])


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(shards):
    whole = [[fingerprint(training_set(shards)[n]) for n in step] for step in Steps(4, stop=8)]
    examples = training_set(shards)
    assert [[fingerprint(examples[n]) for n in step] for step in Steps(4, stop=8, start=5)] == whole[5:]


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_and_workers_do_not_change_the_examples(shards, ranks):
    examples = training_set(shards)
    alone = [fingerprint(examples[n]) for step in Steps(8, stop=3) for n in step]
    loaders = [
        DataLoader(examples, batch_sampler=Steps(8, stop=3, rank=rank, ranks=ranks), collate_fn=list)
        for rank in range(ranks)
    ]
    steps = zip(*loaders, strict=True)
    assert [fingerprint(example) for step in steps for part in step for example in part] == alone


def test_worker_processes_give_the_same(shards):
    examples = training_set(shards)
    steps = Steps(4, stop=4)
    loader = DataLoader(examples, batch_sampler=steps, collate_fn=list, num_workers=2, multiprocessing_context="spawn")
    alone = [fingerprint(examples[n]) for step in steps for n in step]
    assert [fingerprint(example) for batch in loader for example in batch] == alone


def test_a_mixture_is_drawn_by_its_weights(tmp_path):
    names = {"a": 2, "b": 30, "c": 5}
    sources = [open_source(write_tar(tmp_path / f"{name}.tar", pairs(n, prefix=name))) for name, n in names.items()]
    mixture = Mixture(tuple(sources), (5, 3, 2))
    augmentation = Augmentation(16, min_pixels=1)
    examples = TrainingSet(mixture, augmentation, 0, photos_only=True)
    drawn = [examples[n].crop.key[0] for n in range(ROUND)]
    assert {name: drawn.count(name) for name in names} == {"a": 500, "b": 300, "c": 200}


def test_examples_have_masks_unless_photos_only(shards):
    examples, alone = training_set(shards), training_set(shards, photos_only=True)
    assert all(len(examples[n].crop.masks) for n in range(30))
    assert all(len(alone[n].crop.masks) == 0 for n in range(15))


# Real data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "photos", "masks"), [("coco/val.tar", 40, 303), ("ccp/val.tar", 60, 794)])
def test_real_shards_are_read_whole(name, photos, masks):
    path = real_data(name)
    log = SkipLog(0.0)
    samples = list(walk(open_source(path), log))
    assert (len(samples), sum(len(sample.rles) for sample in samples)) == (photos, masks)
    assert log.lines() == []
