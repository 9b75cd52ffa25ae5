"""A recipe: which numbers of a graph are kept in how many bits, under a name that decodes.

`fp32` is the weights and activations as trained, which every other recipe is measured against. `fp16` halves the file;
where a target's CPU computes in fp32 all the same, its GPU does not. `mixed` is fp16 but for the operations that
measurement on samples finds unsafe in it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sam_edge_runtime.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """Numbers of weights and activations.

    Attributes:
        name: how it is asked for.
        weights: dtype that weights are stored in.
        activations: dtype that activations are computed in.
        unsafe: dtype of the operations that are measured to be unsafe in `activations`; None: they are not looked for.
    """

    name: str
    weights: str
    activations: str
    unsafe: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The recipe as it stands in a manifest."""
        return asdict(self)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", "float32", "float32"),
        Recipe("fp16", "float16", "float16"),
        Recipe("mixed", "float16", "float16", unsafe="float32"),
    )
}


def recipe_named(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"no precision called {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
