"""Recipes for quantization and training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.fuzz import mutations as mutate
from tests.fuzz.surfaces.inputs import Attempt


def quantization_recipe(folder: Path) -> Attempt:
    """`recipe.json`."""
    from sam_edge_quant import read_recipe, recipe_named, write_recipe

    path = folder / "recipe.json"
    valid = json.loads(write_recipe(recipe_named("w8a8"), {"tried": [{"mask_miou": 0.98}]}))
    valid["layers"] = {"image_encoder.stem": "w8", "mask_decoder": "fp32"}

    def attempt(rng: np.random.Generator) -> None:
        path.write_bytes(mutate.json_text(rng, valid))
        recipe = read_recipe(path)
        recipe.check_layers(["image_encoder.stem", "mask_decoder.a"])
        recipe.scheme_of("image_encoder.stem")

    return attempt


def training_recipe(folder: Path) -> Attempt:
    """A training recipe in TOML."""
    from sam_edge.training.recipe import read_recipe

    path = folder / "recipe.toml"
    lines = [
        'model = "nano"',
        'data = ["a.tar=0.5", "b.tar"]',
        "seed = 0",
        'loss = "ritm"',
        "learning_rate = 1.5e-3",
        "warm_up = 100",
        "ema = 0.99",
        "[[phases]]",
        "steps = 10",
        "side = 256",
        "photos = 4",
        "masks = 4",
        "interactions = 3",
        "scale = [0.7, 2.6]",
    ]
    literals = [
        "1979-05-27T07:32:00Z",
        "07:32:00",
        "1979-05-27",
        "{a = 1}",
        "[[1]]",
        "[[], 1]",
        "nan",
        "-inf",
        "true",
        "9" * 400,
        "-1",
        "0",
        '""',
        '"\\u001b[2J"',
        "1e400",
        "[" * 2000 + "]" * 2000,
        "0x7fffffffffffffffffff",
        "'''a\nb'''",
    ]

    def attempt(rng: np.random.Generator) -> None:
        changed = list(lines)
        for _ in range(rng.integers(1, 3)):
            place = int(rng.integers(len(changed)))
            key = changed[place].split(" = ")[0]
            match rng.integers(4):
                case 0:
                    del changed[place]
                case 1:
                    changed.insert(place, changed[place])
                case _:
                    changed[place] = f"{key} = {literals[rng.integers(len(literals))]}"
        text = "\n".join(changed).encode()
        path.write_bytes(mutate.content(rng, text) if rng.integers(4) == 0 else text)
        read_recipe(path)

    return attempt
