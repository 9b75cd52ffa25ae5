"""A training recipe: everything that decides what is learned, as one file.

TOML, because people read and edit it; the dataclasses check it when it is read. Paths of data are relative to the
folder that `--data` names, so that a recipe can be committed and rerun elsewhere. Training runs through the phases one
after another, each with its own frame side and batch: small frames first, because views are what little data lack,
and the final side last.
"""

from __future__ import annotations

import math
import sys
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sam_edge.model.sam import check_side
from sam_edge.model.variants import check_variant
from sam_edge_runtime.errors import UsageError

from .losses import RECIPES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

IN_WORDS = {
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "str": "text",
    "tuple[str, ...]": "list of texts",
    "tuple[float, float]": "list of two numbers",
}
RECIPES_FOLDER = Path(__file__).parent / "recipes"
PRECISIONS = ("auto", "no", "bf16", "fp16")
MOST = 2**62  # seeds and counts beyond it are slips, and torch takes them no more


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one frame side.

    Attributes:
        steps: optimizer steps.
        side: side S of the frame in pixels.
        photos: photos of a step, over all processes and accumulated parts.
        masks: masks a photo at most, 64 in the paper.
        interactions: answers of a session, 11 in the paper.
        scale: range of the large-scale jitter.
        eight_bits: layers compute with inputs and weights rounded to eight bits (`eight_bits`). After a last phase of
            this kind the weights that are kept lie on those grids.

    Raises:
        UsageError: a number out of range.
    """

    steps: int
    side: int
    photos: int = 8
    masks: int = 64
    interactions: int = 11
    scale: tuple[float, float] = (0.5, 2.0)
    eight_bits: bool = False

    def __post_init__(self) -> None:
        check_side(self.side)
        for name in ("steps", "photos", "masks", "interactions"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)} of a phase is not possible: at least 1")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise UsageError(f"the scale {list(self.scale)} of a phase is no range: write such as [0.5, 2.0]")


@dataclass(frozen=True)
class TrainRecipe:
    """What is learned, from what, and how.

    Attributes:
        model: variant.
        data: sources as `PATH` or `PATH=WEIGHT`, relative to the data folder.
        phases: at least one.
        seed: of the order of photos, their augmentation and prompts, and the first weights.
        learning_rate: highest rate of AdamW.
        pretrained_rate: factor of the rate for weights that came from elsewhere.
        weight_decay: of kernels; biases, norms and embeddings have none.
        warm_up: steps in which the rate rises from zero; it then falls to `final_rate` of its height as a cosine.
        final_rate: share of the rate that is left at the end.
        clip: largest norm of the gradient.
        ema: decay of the running average of the weights, which is what is kept.
        loss: a key of `losses.RECIPES`.
        single_always: see `SessionRecipe`.
        points: see `SessionRecipe`.
        precision: `no` (fp32), `bf16` or `fp16` autocast; `auto` is bf16 where the machine computes with it, else fp32.
        accumulate: parts in which each process works through its share of a step.
        min_area: masks that cover a smaller share of their photo are left out.

    Raises:
        UsageError: a value out of range.
    """

    model: str
    data: tuple[str, ...]
    phases: tuple[Phase, ...]
    seed: int = 0
    learning_rate: float = 1e-3
    pretrained_rate: float = 0.3
    weight_decay: float = 0.05
    warm_up: int = 100
    final_rate: float = 0.02
    clip: float = 1.0
    ema: float = 0.999
    loss: str = "sam"
    single_always: bool = False
    points: int = 8
    precision: str = "no"
    accumulate: int = 1
    min_area: float = 0.0
    notes: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_variant(self.model)
        if not self.phases:
            raise UsageError("the recipe has no [[phases]]: write at least one, with steps and side")
        if self.loss not in RECIPES:
            raise UsageError(f"the loss {self.loss!r} is unknown: choose one of {', '.join(RECIPES)}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"the precision {self.precision!r} is unknown: choose one of {', '.join(PRECISIONS)}")
        if not self.data:
            raise UsageError("the recipe names no data: write such as data = ['train.tar']")
        for name, least in {"seed": 0, "warm_up": 0, "accumulate": 1, "points": 1}.items():
            if not least <= getattr(self, name) < MOST:
                raise UsageError(f"{name} {getattr(self, name)} is not possible: a whole number from {least}")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} {getattr(self, name)} is not possible: a number above 0")
        for name in ("pretrained_rate", "weight_decay", "final_rate", "ema", "min_area"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} {getattr(self, name)} is out of range: 0 to 1")

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(phase.steps for phase in self.phases)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for comparison and for a checkpoint."""
        return asdict(self)


def read_recipe(path: Path) -> TrainRecipe:
    """The recipe in a TOML file.

    Raises:
        UsageError: it cannot be read, has an unknown or missing key, or a value that is not possible.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path} ({error.strerror}): check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the recipe {path} is no TOML ({error})") from error
    return recipe_of(values, str(path))


def find_recipe(what: str) -> TrainRecipe:
    """A recipe by the name of one that comes with sam-edge, or by its path.

    Raises:
        UsageError: see `read_recipe`.
    """
    own = RECIPES_FOLDER / f"{what}.toml"
    if "/" not in what and own.is_file():
        return read_recipe(own)
    if not what.endswith(".toml"):
        names = ", ".join(sorted(path.stem for path in RECIPES_FOLDER.glob("*.toml")))
        raise UsageError(f"no recipe called {what!r}: choose one of {names}, or name a .toml file")
    return read_recipe(Path(what))


def recipe_of(values: dict[str, Any], name: str) -> TrainRecipe:
    """A recipe of plain values, as TOML or JSON gives them; `name` is for the errors.

    Raises:
        UsageError: see `read_recipe`.
    """
    phases = values.get("phases", [])
    if not isinstance(phases, list) or not all(isinstance(phase, dict) for phase in phases):
        raise UsageError(f"{name}: phases are tables, each begun with [[phases]]")
    try:
        ready = tuple(Phase(**_known(Phase, phase, f"{name}, a phase")) for phase in phases)
        rest = {key: value for key, value in values.items() if key != "phases"}
        return TrainRecipe(**_known(TrainRecipe, rest, name), phases=ready)
    except TypeError as error:
        raise UsageError(f"{name}: {error}") from error


def _known(kind: type[Phase] | type[TrainRecipe], values: dict[str, Any], name: str) -> dict[str, Any]:
    """The values as keyword arguments: lists become tuples, an unknown key or a wrong type is refused."""
    known = {entry.name: str(entry.type) for entry in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"{name}: {key!r} is unknown; known are {', '.join(known)}")
        wanted = known[key]
        if not _fits(value, wanted):
            raise UsageError(f"{name}: {key} = {value!r} is no {IN_WORDS[wanted]}")
    for entry in fields(kind):
        if entry.default is MISSING and entry.name not in values and entry.name != "phases":
            raise UsageError(f"{name} has no {entry.name}: write {entry.name} = ... ({IN_WORDS[known[entry.name]]})")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _fits(value: object, wanted: str) -> bool:
    """Whether a value as TOML gives it has the type that a field is annotated with."""
    kinds: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool, "str": str}
    if wanted in kinds:
        return isinstance(value, kinds[wanted]) and isinstance(value, bool) == (wanted == "bool")
    part = "str" if wanted.startswith("tuple[str") else "float"
    return isinstance(value, (list, tuple)) and all(_fits(entry, part) for entry in value)
