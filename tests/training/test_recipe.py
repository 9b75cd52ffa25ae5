"""Recipes: values that are read, and values that are refused, with their messages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sam_edge.training.losses import RITM
from sam_edge.training.recipe import (
    NEW_KEYS,
    RECIPES_FOLDER,
    find_recipe,
    find_stage,
    read_recipe,
    with_current_keys,
)
from sam_edge_runtime.errors import UsageError

GOOD = """
model = "nano"
data = ["a.tar=0.5", "b.tar=1"]
learning_rate = 1
[[phases]]
steps = 3
side = 256
scale = [0.5, 2]
[[phases]]
steps = 4
side = 512
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_recipe_of_a_windows_editor_is_read(tmp_path, encoding):
    (tmp_path / "windows.toml").write_bytes(GOOD.replace("\n", "\r\n").encode(encoding))
    assert read_recipe(tmp_path / "windows.toml") == read_recipe(written(tmp_path, GOOD))


def test_a_recipe_is_read_from_toml(tmp_path):
    recipe = read_recipe(written(tmp_path, GOOD))
    assert (recipe.model, recipe.steps, recipe.data) == ("nano", 7, ("a.tar=0.5", "b.tar=1"))
    assert (recipe.phases[0].side, recipe.phases[0].scale, recipe.phases[1].masks) == (256, (0.5, 2), 64)


def test_every_shipped_recipe_is_valid():
    for path in RECIPES_FOLDER.glob("*.toml"):
        assert find_stage(path.stem).steps > 0


@pytest.mark.parametrize("key", ["fake_quant", "eight_bits"])
def test_the_key_eight_bits_of_version_0_1_means_fake_quant(key, tmp_path):
    recipe = read_recipe(written(tmp_path, f"{GOOD}{key} = true\n"))
    assert [phase.fake_quant for phase in recipe.phases] == [False, True]


def test_a_phase_has_the_old_key_or_the_new_one_not_both(tmp_path):
    with pytest.raises(UsageError, match="'eight_bits' is unknown"):
        read_recipe(written(tmp_path, f"{GOOD}eight_bits = true\nfake_quant = true\n"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("side = 256", "side = 250"), "multiple of 64"),
        (("steps = 3", "steps = 0"), "steps 0"),
        (("steps = 3", "steps = 2.5"), "no integer"),
        (("steps = 3", "steps = true"), "no integer"),
        (("steps = 3", "steps = -4"), "steps -4"),
        (("steps = 3", ""), "a phase has no steps: write"),
        (('model = "nano"', 'model = "nona"'), "'nona'"),
        (('model = "nano"', ""), "has no model: write"),
        (('data = ["a.tar=0.5", "b.tar=1"]', ""), "has no data: write"),
        (('data = ["a.tar=0.5", "b.tar=1"]', "data = []"), "no data"),
        (('data = ["a.tar=0.5", "b.tar=1"]', 'data = "a.tar"'), "no list of texts"),
        (('data = ["a.tar=0.5", "b.tar=1"]', "data = [1, 2]"), "no list of texts"),
        (("learning_rate = 1", "learning_rate = 0"), "learning_rate 0"),
        (("learning_rate = 1", "learning_rate = -1e-3"), "learning_rate -0.001"),
        (("learning_rate = 1", "learning_rate = nan"), "learning_rate nan"),
        (("learning_rate = 1", "learning_rate = inf"), "learning_rate inf"),
        (("learning_rate = 1", 'learning_rate = "fast"'), "'fast' is no number"),
        (("learning_rate = 1", "single_always = 1"), "no true or false"),
        (("learning_rate = 1", "seed = -1"), "seed -1"),
        (("learning_rate = 1", "points = 0"), "points 0"),
        (("learning_rate = 1", "accumulate = 0"), "accumulate 0"),
        (("learning_rate = 1", "min_area = -0.1"), "min_area -0.1"),
        (("learning_rate = 1", "weight_decay = nan"), "weight_decay nan"),
        (("learning_rate = 1", "learning_speed = 1"), "'learning_speed' is unknown"),
        (("learning_rate = 1", "ema = 1.5"), "ema 1.5"),
        (("learning_rate = 1", 'loss = "l2"'), "'l2'"),
        (("learning_rate = 1", 'precision = "int8"'), "'int8'"),
        (("scale = [0.5, 2]", "scale = [2, 0.5]"), "no range"),
        (("scale = [0.5, 2]", "scale = [0.5, inf]"), "no range"),
        (("scale = [0.5, 2]", "scale = [0.5]"), "no range"),
        (("scale = [0.5, 2]", 'scale = ["a", "b"]'), "no list of two numbers"),
        (("scale = [0.5, 2]", "learning_rate = -1.0"), "-1.0 of a phase is no rate"),
        (("scale = [0.5, 2]", "learning_rate = nan"), "no rate"),
        (("scale = [0.5, 2]", "crop = 3"), "a phase: 'crop' is unknown"),
        (("[[phases]]", "[phases]"), "TOML"),
        (("model", "model ="), "TOML"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(change, says, tmp_path):
    with pytest.raises(UsageError, match=says) as caught:
        read_recipe(written(tmp_path, GOOD.replace(*change)))
    assert "\n" not in str(caught.value)


def test_unknown_recipes_are_refused_with_the_choices(tmp_path):
    with pytest.raises(UsageError, match="choose one of distill, int8, nano"):
        find_recipe("giant")
    with pytest.raises(UsageError, match="cannot read the recipe"):
        find_recipe(str(tmp_path / "missing.toml"))
    with pytest.raises(UsageError, match="no \\[\\[phases\\]\\]"):
        read_recipe(written(tmp_path, 'model = "nano"\ndata = ["a"]\n'))


def test_runs_without_the_newer_keys_have_their_defaults(tmp_path):
    recipe = json.loads(json.dumps(read_recipe(written(tmp_path, GOOD)).to_json()))
    earlier = {key: value for key, value in recipe.items() if key not in NEW_KEYS}
    assert earlier != recipe
    assert with_current_keys(earlier) == recipe


def test_the_boundary_weight_reaches_the_losses(tmp_path):
    recipe = read_recipe(written(tmp_path, f"loss = 'ritm'\nboundary_weight = 2.0\n{GOOD}"))
    assert recipe.losses() == replace(RITM, boundary_weight=2.0)
