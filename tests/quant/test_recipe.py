"""Recipes: schemes by name, exceptions, files, and errors that list the choices."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sam_edge_quant.recipe import AUTO, RECIPES, SCHEMES, Recipe, read_recipe, recipe_named, write_recipe
from sam_edge_runtime.agreement.agreement import BOUNDS
from sam_edge_runtime.errors import UsageError


def test_fp32_keeps_every_number_as_trained():
    assert recipe_named("fp32") == Recipe("fp32", weights="float32", activations="float32")


def test_every_scheme_has_a_recipe():
    assert tuple(RECIPES) == SCHEMES


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_found_by_its_own_name_and_names_real_dtypes(name):
    recipe = recipe_named(name)
    assert recipe.name == name
    assert recipe.weights == "int4" or np.dtype(recipe.weights).itemsize >= 1  # numpy has no int4
    assert np.dtype(recipe.activations).itemsize >= 1


@pytest.mark.parametrize("name", RECIPES)
def test_the_json_form_gives_the_recipe_back(name):
    stored = json.loads(json.dumps(recipe_named(name).to_json()))
    assert Recipe(**stored) == recipe_named(name)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe_named("fp32").weights = "int8"


def test_every_bound_is_set_for_a_recipe_that_exists():
    # custom: a recipe file with exceptions; auto: one that was searched for
    assert {precision for _, precision in BOUNDS} <= {*RECIPES, "custom", AUTO}


@pytest.mark.parametrize("name", ["fp23", "FP32", "", "float32"])
def test_an_unknown_name_is_refused_with_the_choices(name):
    with pytest.raises(UsageError) as caught:
        recipe_named(name)
    line = str(caught.value)
    assert "\n" not in line
    assert repr(name) in line
    assert "choose one of " + ", ".join(RECIPES) in line


def test_the_longest_name_that_fits_decides():
    recipe = dataclasses.replace(
        recipe_named("w8a8"), layers={"encoder": "w8", "encoder.blocks.1": "fp32", "decoder": "dynamic"}
    )
    schemes = {
        name: recipe.scheme_of(name) for name in ("encoder.stem", "encoder.blocks.1.a", "encoder.blocks.10.a", "neck")
    }
    assert schemes == {
        "encoder.stem": "w8",
        "encoder.blocks.1.a": "fp32",
        "encoder.blocks.10.a": "w8",
        "neck": "w8a8",
    }
    assert recipe.schemes == {"w8a8", "w8", "fp32", "dynamic"}


def test_an_exception_for_an_unknown_layer_is_named():
    recipe = dataclasses.replace(recipe_named("w8"), layers={"encoder.blocks.7": "fp32"})
    recipe.check_layers(["encoder.blocks.7.a"])
    with pytest.raises(UsageError, match=r"encoder\.blocks\.7.*it has encoder\.blocks\.6"):
        recipe.check_layers(["encoder.blocks.6.a", "encoder.blocks.70.a"])


def test_a_recipe_file_gives_the_recipe_back(tmp_path):
    recipe = dataclasses.replace(recipe_named("w8a8"), layers={"decoder": "w8"}, estimator="mse")
    path = tmp_path / "recipe.json"
    path.write_text(write_recipe(recipe, {"why": [1.5]}))
    assert read_recipe(path) == recipe
    assert json.loads(path.read_text())["evidence"] == {"why": [1.5]}
    for encoding in ("utf-8-sig", "utf-16"):  # as editors on Windows write
        path.write_bytes(write_recipe(recipe, {}).replace("\n", "\r\n").encode(encoding))
        assert read_recipe(path) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "w9"}, "no precision called 'w9': choose one of fp32, fp16"),
        ({"weights": "int3"}, "no dtype called 'int3': choose one of float32, float16, int16, int8, int4"),
        ({"activations": "float8"}, "no dtype called 'float8': choose one of float32"),
        ({"unsafe": "double"}, "no dtype called 'double': choose one of float32"),
        ({"estimator": "guess"}, "no estimator called 'guess': choose one of minmax, percentile, entropy, mse"),
        ({"layers": {"decoder": "w9"}}, "no precision called 'w9' for 'decoder': choose one of fp32"),
        ({"layers": {"decoder": None}}, "no precision called None for 'decoder'"),
        ({"layers": ["decoder"]}, r"layers is \['decoder'\]: an object is expected"),
        ({"layers": {5: "w8"}}, "layers is {5: 'w8'}: an object is expected"),
    ],
)
def test_a_recipe_checks_itself_when_it_is_made(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        dataclasses.replace(recipe_named("w8"), **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "else"}, "no recipe"),
        ({"version": 2}, "no recipe"),
        ({"name": "w9"}, "'w9'"),
        ({"name": 8}, "no precision called 8"),
        ({"layers": ["decoder"]}, "layers"),
        ({"layers": {"decoder": "w9"}}, "'w9' for 'decoder'"),
        ({"estimator": "guess"}, "'guess'"),
        ({"speed": 1}, "'speed'"),
    ],
)
def test_a_fault_in_a_recipe_file_is_named(tmp_path, change, message):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**json.loads(write_recipe(recipe_named("w8"))), **change}))
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_recipe_file_without_exceptions_or_estimator_is_the_scheme_itself(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"format": "sam-edge-recipe", "version": 1, "name": "w8a8"}))
    assert read_recipe(path) == recipe_named("w8a8")


def test_a_file_that_is_not_json_is_refused(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text("w8")
    for wrong in (path, tmp_path / "missing.json"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_recipe(wrong)


def test_a_recipe_names_how_weights_are_rounded(tmp_path):
    recipe = dataclasses.replace(recipe_named("w4"), rounding="nc-gptq")
    (tmp_path / "recipe.json").write_text(write_recipe(recipe))
    assert read_recipe(tmp_path / "recipe.json") == recipe
    assert "rounding" not in recipe_named("w4").to_json()  # older readers do not know the field


@pytest.mark.parametrize(
    ("rounding", "says"),
    [
        ("nc-awq", "rounding nc-awq is not possible, because it scales .*: choose one of gptq, nc-rtn, nc-gptq"),
        ("nc-hqq", "fractions as zero points"),
        ("nc-autoround", "auto-round"),
        ("nearest", "no rounding called 'nearest': choose one of gptq, nc-rtn, nc-gptq"),
    ],
)
def test_a_rounding_that_no_target_can_hold_is_refused_with_the_alternatives(rounding, says):
    with pytest.raises(UsageError, match=says):
        dataclasses.replace(recipe_named("w4"), rounding=rounding)
