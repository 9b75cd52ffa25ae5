"""Quantization: what a recipe's name means, the same for all targets."""

from __future__ import annotations

from .recipe import RECIPES, Recipe, recipe_named

__all__ = ["RECIPES", "Recipe", "recipe_named"]
