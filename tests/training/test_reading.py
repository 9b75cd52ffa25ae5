"""Reading in worker processes: the same examples, and errors of one line."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from sam_edge.data.augment import Augmentation
from sam_edge.data.mixture import open_mixture
from sam_edge.data.order import Steps
from sam_edge.data.sa1b import MaskFilter
from sam_edge.data.stream import Example, TrainingSet
from sam_edge.training.reading import default_workers, read_steps
from sam_edge_runtime.errors import DataError
from tests.data.builders import pairs, write_tar


@pytest.fixture
def data(tmp_path) -> TrainingSet:
    return TrainingSet(open_mixture([str(write_tar(tmp_path / "a.tar", pairs(4)))]), Augmentation(256), 0)


def test_any_number_of_workers_gives_the_same_examples(data):
    alone, in_workers = (list(read_steps(data, Steps(2, 2), workers)) for workers in (0, 2))
    assert [reading.numbers for reading in in_workers] == [(0, 1), (2, 3)]
    for ours, theirs in zip(alone, in_workers, strict=True):
        torch.testing.assert_close(ours.pixels, theirs.pixels, rtol=0, atol=0)
        torch.testing.assert_close(ours.masks, theirs.masks, rtol=0, atol=0)
        assert ours.counts == theirs.counts


def test_batches_equal_the_crops(data):
    (reading,) = read_steps(data, Steps(4, 1), 0)
    batches = list(reading.batches(2, 7, torch.device("cpu")))
    assert [len(batch) for batch in batches] == [2, 2]
    photos = [(batch.images[i], batch.masks[i], batch.valid[i]) for batch in batches for i in range(2)]
    for number, (image, masks, valid) in enumerate(photos):
        crop = data[number].crop
        np.testing.assert_array_equal(image.numpy(), crop.image)
        np.testing.assert_array_equal(masks.numpy(), crop.masks)
        np.testing.assert_array_equal(valid.numpy(), crop.valid())
    assert {batch.step for batch in batches} == {7}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_one_line_in_a_worker_and_in_the_main_process(workers, tmp_path):
    mixture = open_mixture([str(write_tar(tmp_path / "a.tar", pairs(2)))])
    strict = TrainingSet(mixture, Augmentation(256), 0, wanted=MaskFilter(min_area=0.99))
    with pytest.raises(DataError, match=r"^none of 64 records drawn from .*a\.tar has a mask") as caught:
        list(read_steps(strict, Steps(2, 2), workers))
    assert "\n" not in str(caught.value)


class Killed(TrainingSet):
    """Ends the worker process as the operating system would for lack of memory."""

    def __getitem__(self, number: int) -> Example:
        os._exit(9)


def test_a_killed_worker_is_reported_with_its_remedy(tmp_path):
    mixture = open_mixture([str(write_tar(tmp_path / "a.tar", pairs(2)))])
    with pytest.raises(DataError, match="fewer --workers"):
        list(read_steps(Killed(mixture, Augmentation(256), 0), Steps(2, 1), 1))


@pytest.mark.parametrize(
    ("cores", "processes", "workers"), [(1, "", 1), (2, "1", 1), (16, "", 8), (64, "", 8), (16, "4", 2)]
)
def test_training_processes_share_the_cores_for_their_workers(cores, processes, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert default_workers() == workers
