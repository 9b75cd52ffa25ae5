"""Recipes: names that decode, and a refusal that lists them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sam_edge_quant.recipe import RECIPES, Recipe, recipe_named
from sam_edge_runtime.agreement import BOUNDS
from sam_edge_runtime.errors import UsageError


def test_fp32_keeps_every_number_as_trained():
    assert recipe_named("fp32") == Recipe("fp32", weights="float32", activations="float32")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_found_by_its_own_name_and_names_real_dtypes(name):
    recipe = recipe_named(name)
    assert recipe.name == name
    assert np.dtype(recipe.weights).itemsize >= 1
    assert np.dtype(recipe.activations).itemsize >= 1


@pytest.mark.parametrize("name", RECIPES)
def test_the_json_form_says_everything(name):
    stored = json.loads(json.dumps(recipe_named(name).to_json()))
    assert Recipe(**stored) == recipe_named(name)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe_named("fp32").weights = "int8"


def test_every_bound_is_set_for_a_recipe_that_exists():
    assert {precision for _, precision in BOUNDS} <= set(RECIPES)


@pytest.mark.parametrize("name", ["fp23", "FP32", "", "float32"])
def test_an_unknown_name_is_refused_with_the_choices(name):
    with pytest.raises(UsageError) as caught:
        recipe_named(name)
    line = str(caught.value)
    assert "\n" not in line
    assert repr(name) in line
    assert "choose one of " + ", ".join(RECIPES) in line
