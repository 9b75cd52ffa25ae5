"""A words stage on drawn scenes: names are learned, the model stays as it is, and a resumed run is the same run."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_edge.data.mask_names import MaskNames
from sam_edge.data.sources import open_source
from sam_edge.training.recipe import find_stage, read_recipe, read_stage
from sam_edge.training.words.calibrate import with_offsets
from sam_edge.training.words.encoded import MIRRORED, WHOLE, EncodedView, regions_of, view_of
from sam_edge.training.words.objective import POSITIVE_WEIGHT, WordLearner, WordsObjective
from sam_edge.training.words.recipe import WordsRecipe
from sam_edge.training.words.start import start_by_least_squares, start_priors
from sam_edge.training.words.train import WordsJob, train_words
from sam_edge.weights.words import empty_maps, read_table, read_words
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.errors import CheckpointError, DataError, UsageError
from sam_edge_runtime.photo.write import png_bytes

SIZE = (48, 64)
COLOURS = {"apple": (200, 30, 30), "frisbee": (30, 60, 200), "kite": (230, 220, 40)}


def scene(seed: int) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """A grey photo with two discs of different names."""
    draw = np.random.default_rng(seed)
    photo = draw.normal(110, 8, (*SIZE, 3))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    named = []
    for place, name in enumerate(draw.permutation(list(COLOURS))[:2]):
        centre = (draw.uniform(14, 34), 16 + 32 * place + draw.uniform(-2, 2))
        disc = np.hypot(y - centre[0], x - centre[1]) < draw.uniform(8, 12)
        photo[disc] = COLOURS[str(name)]
        named.append((str(name), disc))
    return np.clip(photo, 0, 255).astype(np.uint8), named


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A shard of twelve scenes, with the names of their masks."""
    folder = tmp_path_factory.mktemp("scenes")
    names: dict[str, list[str | None]] = {}
    with tarfile.open(folder / "train.tar", "w") as tar:
        for number in range(12):
            photo, masks = scene(number)
            key = f"scene_{number:03d}"
            encoded = [rle.encode(mask) for _, mask in masks]
            record = {
                "image": {"image_id": number, "width": SIZE[1], "height": SIZE[0], "file_name": f"{key}.png"},
                "annotations": [
                    {"id": index, "segmentation": each, "area": rle.area(each), "bbox": [0, 0, 1, 1]}
                    for index, each in enumerate(encoded)
                ],
            }
            for name, content in ((f"{key}.png", png_bytes(photo)), (f"{key}.json", json.dumps(record).encode())):
                (folder / name).write_bytes(content)
                tar.add(folder / name, name)
                (folder / name).unlink()
            names[key] = [name for name, _ in masks]
    (folder / "train.names.json").write_text(json.dumps(names))
    return folder


RECIPE = WordsRecipe(data=("train.tar",), steps=30, photos=6, views=(1,), learning_rate=5e-3, warm_up=5, drop=0.0)


def test_names_belong_to_masks_in_their_order(data):
    source = open_source(data / "train.tar")
    names = MaskNames([source])
    assert sum(names.counts.values()) == 24
    assert set(names.counts) == set(COLOURS)


def test_views_are_whole_mirrored_or_cropped():
    photo, named = scene(0)
    regions = dict(named)
    whole, same = view_of(photo, regions, WHOLE, 0)
    np.testing.assert_array_equal(whole, photo)
    mirrored, others = view_of(photo, regions, MIRRORED, 0)
    np.testing.assert_array_equal(mirrored, photo[:, ::-1])
    cropped, cut = view_of(photo, regions, 2, 0)
    assert cropped.shape[0] < photo.shape[0]
    for name, mask in regions.items():
        np.testing.assert_array_equal(same[name], mask)
        np.testing.assert_array_equal(others[name], mask[:, ::-1])
        assert cut[name].shape == cropped.shape[:2]


def test_regions_are_unions_of_the_masks_of_a_name(data):
    from sam_edge.data.stream import read_sample

    sample = read_sample(open_source(data / "train.tar").read(0), annotated=True)
    regions = regions_of(sample, ["kite", "kite"])
    np.testing.assert_array_equal(regions["kite"], sample.masks().any(axis=0))
    assert regions_of(sample, [None, None]) == {}


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> tuple[Path, list[dict[str, float]]]:
    """A finished run that was interrupted after ten steps, and its losses."""
    out = tmp_path_factory.mktemp("run")
    assert train_words(WordsJob(data, out, stop_after=10, save_every=5), RECIPE) is None
    with pytest.raises(UsageError, match="--resume"):
        train_words(WordsJob(data, out), RECIPE)
    with pytest.raises(UsageError, match=r"was started with drop = 0\.0"):
        train_words(WordsJob(data, out, resume=True), WordsRecipe(data=("train.tar",), steps=31))
    written = train_words(WordsJob(data, out, resume=True), RECIPE)
    assert written is not None
    return written, [json.loads(line) for line in (out / "losses.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_learns_names_and_a_resumed_one_is_the_same(run, data, tmp_path):
    written, losses = run
    assert [record["step"] for record in losses] == list(range(30))
    first, last = (np.mean([record["dice"] for record in part]) for part in (losses[:5], losses[-5:]))
    assert last < 0.6 * first
    again: list[float] = []
    train_words(WordsJob(data, tmp_path / "again"), RECIPE, lambda step, record: again.append(record["loss"]))
    np.testing.assert_allclose(again, [record["loss"] for record in losses], rtol=1e-5)
    words = read_words(written)
    assert words.vocabulary.names == ("apple", "frisbee", "kite")
    assert words.vocabulary.row("kites") == 2
    other = read_words(tmp_path / "again" / "words.safetensors")
    np.testing.assert_allclose(other.vocabulary.vectors, words.vocabulary.vectors, atol=1e-3)


def test_data_without_names_or_with_unknown_ones_are_refused(data, tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "train.tar").write_bytes((data / "train.tar").read_bytes())
    with pytest.raises(DataError, match=r"write train\.names\.json beside it"):
        train_words(WordsJob(tmp_path / "plain", tmp_path / "out"), RECIPE)
    (tmp_path / "plain" / "train.names.json").write_text("[]")
    with pytest.raises(DataError, match="no file of names"):
        train_words(WordsJob(tmp_path / "plain", tmp_path / "out"), RECIPE)
    table = tmp_path / "words.toml"
    table.write_text("apple = []\n")
    with pytest.raises(DataError, match="the table of words does not have"):
        train_words(WordsJob(data, tmp_path / "out", table=table), RECIPE)
    table.write_text("apple = 3\n")
    with pytest.raises(UsageError, match="'apple' is no list"):
        read_table(table)


def test_recipes_of_words_are_read_and_refused_elsewhere(tmp_path):
    assert isinstance(find_stage("words"), WordsRecipe)
    path = tmp_path / "mine.toml"
    path.write_text('stage = "words"\ndata = ["a.tar", "b.tar"]\nsteps = 3\nviews = [2, 1]\n')
    recipe = read_stage(path)
    assert isinstance(recipe, WordsRecipe)
    assert recipe.views == (2, 1)
    with pytest.raises(UsageError, match="trains words"):
        read_recipe(path)
    for line, says in (
        ("steps = 0", "steps 0 is out of range"),
        ("least_squares = 1", "least_squares = 1 is no true or false"),
        ('stage = "x"', "stage = 'x' is unknown"),
    ):
        path.write_text(
            f'stage = "words"\ndata = ["a.tar"]\n{line}\n'.replace('stage = "words"\n', "", line[:5] == "stage")
        )
        with pytest.raises(UsageError, match=says):
            read_stage(path)


def view(*names: str) -> EncodedView:
    """A view of random features; its names cover a quarter of it."""
    embedding = np.random.default_rng(len(names)).standard_normal((256, 4, 4)).astype(np.float16)
    regions = np.zeros((len(names), 16, 16), np.uint8)
    regions[:, :8, :8] = 255
    return EncodedView(embedding, names, regions, (64, 64))


def test_the_presence_of_a_name_starts_at_the_log_odds_of_its_frequency():
    learner = WordLearner(empty_maps(), 2, 0)
    views = [view("cat", "dog"), view("cat"), view("cat"), view("dog")]
    labelled = np.array([[1, 1], [0, 1]], np.float32)  # the second source names no cats
    start_priors(learner, views, ("cat", "dog"), labelled, [0, 0, 0, 1])
    shares = torch.tensor([(3 + 0.5) / (3 + 1), (2 + 0.5) / (4 + 1)])
    torch.testing.assert_close(learner.priors.detach(), torch.logit(shares) + np.log(POSITIVE_WEIGHT))


@torch.inference_mode()
def test_offsets_of_maps_and_presence_become_the_vectors_last_numbers():
    learner = WordLearner(empty_maps(8), 2, 0).eval()
    learner.priors.copy_(torch.tensor([-2.0, 1.0]))
    embedding = torch.from_numpy(view().embedding).float()[None]
    drawn, presence = learner.maps(embedding, learner.vectors)
    offsets = np.array([0.5, -1.5])
    maps, vectors = with_offsets(learner, offsets)
    assert vectors.shape == (2, 10)
    found = maps(embedding, vectors)
    torch.testing.assert_close(found[0], drawn + torch.from_numpy(offsets).float().reshape(2, 1, 1, 1))
    torch.testing.assert_close(found[1], presence + learner.priors[:, None])


def test_photos_that_set_thresholds_are_not_learned_from(data, tmp_path, monkeypatch):
    from sam_edge.training.words import train as module

    seen = {}

    def remember(name, function):
        def called(learner, views, *rest):
            seen[name] = [int(path.stem.split("_")[1]) for path in views.files]
            return function(learner, views, *rest)

        return called

    for name in ("start_by_least_squares", "offsets_of"):
        monkeypatch.setattr(module, name, remember(name, getattr(module, name)))
    train_words(WordsJob(data, tmp_path / "run"), replace(RECIPE, steps=1, held_out=4))
    assert seen["offsets_of"] == [3, 7, 11]
    assert seen["start_by_least_squares"] == [0, 1, 2, 4, 5, 6, 8, 9, 10]


def test_steps_without_the_fine_part_train_the_cells_alone():
    learner = WordLearner(empty_maps(8).train(), 2, 0)
    objective = WordsObjective(learner, ("cat", "dog"), np.ones((1, 2), np.float32), RECIPE)
    moved = {}
    for fine in (True, False):
        learner.zero_grad()
        objective([view("cat")], [0], np.random.default_rng(0), fine=fine)["loss"].backward()
        moved[fine] = {name.split(".")[0] for name, each in learner.maps.named_parameters() if each.grad is not None}
    assert moved[True] - moved[False] >= {"unpack_cells", "unpack_detail", "refine", "fine_filter"}
    assert moved[False] >= {"reduce", "cell_filter", "bias", "presence_filter"}


def test_noise_is_in_proportion_to_each_channel_and_shrinks_the_regressions():
    objective = WordsObjective(
        WordLearner(empty_maps(8), 2, 0), ("cat", "dog"), np.ones((1, 2), np.float32), replace(RECIPE, noise=0.2)
    )
    plain = (
        torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 10.0, 0.0])[:, None, None]
    )
    noise = objective._noisy(plain, np.random.default_rng(0)) - plain
    torch.testing.assert_close(noise.std(dim=(0, 2, 3)), torch.tensor([0.2, 2.0, 0.0]), rtol=0.05, atol=1e-6)
    sizes = []
    for share in (0.0, 2.0):
        learner = WordLearner(empty_maps(8), 2, 0)
        start_by_least_squares(learner, [view("cat"), view("cat", "dog")], ("cat", "dog"), share)
        sizes.append(float(learner.vectors[:, :2].detach().abs().sum()))
    assert sizes[1] < 0.7 * sizes[0]


def test_a_file_that_holds_no_words_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    with pytest.raises(CheckpointError, match="no words at"):
        read_words(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="holds no words"):
        read_words(path)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="holds no words"):
        read_words(path)
