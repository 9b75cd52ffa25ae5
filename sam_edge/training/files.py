"""Names of the files in the folder of a run."""

from __future__ import annotations

RECIPE_FILE, START_FILE, WEIGHTS_FILE, PICTURES = "recipe.json", "start.json", "model.safetensors", "pictures"
