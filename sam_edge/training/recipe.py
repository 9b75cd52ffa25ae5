"""A training recipe: everything that decides what is learned, in one TOML file.

The dataclasses check each value when they are made. Paths of data are relative to the folder that `--data` names, so a
recipe can be committed and rerun elsewhere. Training runs through the phases in order, each with its own frame side and
batch: small frames first, because a small data set needs many views, and the final side last.
"""

from __future__ import annotations

import math
import sys
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sam_edge.model.sam import check_side
from sam_edge.model.variants import check_variant
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.system.text import read_text

from .losses import RECIPES, LossRecipe
from .optimization import Cosine
from .ranges import check_integer, check_positive, check_share
from .words.recipe import WordsRecipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TYPE_NAMES = {  # how error messages call the annotated types
    "int": "integer",
    "float": "number",
    "bool": "true or false",
    "str": "text",
    "tuple[str, ...]": "list of texts",
    "tuple[float, float]": "list of two numbers",
    "tuple[int, ...]": "list of integers",
}
WORDS_STAGE = "words"
RECIPES_FOLDER = Path(__file__).parent / "recipes"
PRECISIONS = ("auto", "no", "bf16", "fp16")
# Keys that runs of earlier versions do not have, and what they mean by that.
NEW_KEYS: dict[str, Any] = {"neighbours": 0.0, "unshown_iou": False, "boundary_weight": 0.0, "paste": 0.0, "frozen": []}
NEW_PHASE_KEYS: dict[str, Any] = {"learning_rate": 0.0}
OLD_PHASE_KEYS = {"eight_bits": "fake_quant"}  # recipes and runs of version 0.1 have the left-hand name


@dataclass(frozen=True)
class Phase:
    """A part of the training with one frame side.

    Attributes:
        steps: optimizer steps.
        side: side S of the frame in pixels, a multiple of 64 from 256 to 1024.
        photos: photos of a step, over all processes and accumulated parts.
        masks: the most masks of a photo, 64 in the paper.
        interactions: decoder calls in a session of prompts, 11 in the paper.
        scale: range of the large-scale jitter: least and largest factor on the photo's size.
        fake_quant: quantization-aware training: layers compute with inputs and weights rounded to INT8
            (`sam_edge.quantization.fake_quant`). After a last phase of this kind the saved weights lie on that
            quantization grid.
        learning_rate: highest rate of this phase, which then falls as a cosine of its own; 0 for the recipe's.

    Raises:
        UsageError: a number out of range.
    """

    steps: int
    side: int
    photos: int = 8
    masks: int = 64
    interactions: int = 11
    scale: tuple[float, float] = (0.5, 2.0)
    fake_quant: bool = False
    learning_rate: float = 0.0

    def __post_init__(self) -> None:
        check_side(self.side)
        for name in ("steps", "photos", "masks", "interactions"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)} of a phase is too small: write at least 1")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise UsageError(f"the scale {list(self.scale)} of a phase is no range: write, for example, [0.5, 2.0]")
        if not 0 <= self.learning_rate < math.inf:
            raise UsageError(f"learning_rate {self.learning_rate} of a phase is no rate: write a number, or omit it")


@dataclass(frozen=True)
class TrainRecipe:
    """The model, its data, and how it is trained.

    Attributes:
        model: variant.
        data: sources as `PATH` or `PATH=WEIGHT`, relative to the data folder.
        phases: at least one.
        seed: of the initial weights, the order of photos, their augmentation and their prompts.
        learning_rate: highest rate of AdamW.
        pretrained_rate: factor of the rate for pretrained weights, 0 to 1.
        weight_decay: of kernels, 0 to 1; biases, norms and embeddings have none.
        warm_up: steps in which the rate rises linearly; it then falls as a cosine over the phases without their own.
        final_rate: share of the highest rate that is left at the end, 0 to 1.
        clip: largest norm of the gradient.
        ema: decay of the running average of the weights, 0 to 1; the average is what is saved.
        loss: a key of `losses.RECIPES`.
        single_always: see `SessionRecipe`.
        points: see `SessionRecipe`.
        neighbours: see `SessionRecipe`; 0 to 1.
        unshown_iou: see `SessionRecipe`.
        boundary_weight: see `LossRecipe`.
        paste: share of photos that get objects of another photo (`sam_edge.data.copy_paste`), 0 to 1.
        frozen: parts of the model whose weights stay as they are, such as `image_encoder.stem`.
        precision: `no` (fp32), `bf16` or `fp16` autocast; `auto` is bf16 where the hardware has it, else fp32.
        accumulate: parts into which each process divides its photos of a step, to save memory.
        min_area: masks that cover a smaller share of their photo are left out, 0 to 1.
        notes: free text for readers of the recipe; ignored in comparisons.

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
    neighbours: float = 0.0
    unshown_iou: bool = False
    boundary_weight: float = 0.0
    paste: float = 0.0
    frozen: tuple[str, ...] = ()
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
            raise UsageError("the recipe names no data: write, for example, data = ['train.tar']")
        for name, least in {"seed": 0, "warm_up": 0, "accumulate": 1, "points": 1}.items():
            check_integer(name, getattr(self, name), least)
        for name in ("learning_rate", "clip"):
            check_positive(name, getattr(self, name))
        for name in ("pretrained_rate", "weight_decay", "final_rate", "ema", "min_area", "neighbours", "paste"):
            check_share(name, getattr(self, name))
        self.losses()  # refuses an impossible boundary_weight

    def losses(self) -> LossRecipe:
        """The losses: those that `loss` names, with `boundary_weight`."""
        return replace(RECIPES[self.loss], boundary_weight=self.boundary_weight)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(phase.steps for phase in self.phases)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0: that of the recipe, or of the phase where it has its own."""
        common = Cosine(
            self.learning_rate,
            sum(phase.steps for phase in self.phases if not phase.learning_rate),
            self.warm_up,
            self.final_rate,
        )
        first = done = 0  # steps before the phase, and those of them that have the recipe's rate
        for phase in self.phases:
            own = phase.learning_rate > 0
            if step < first + phase.steps:
                break
            first += phase.steps
            done += 0 if own else phase.steps
        if own:
            return Cosine(phase.learning_rate, phase.steps, 0, self.final_rate).at(step - first)
        return common.at(done + step - first)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for comparison and for a checkpoint."""
        return asdict(self)


def read_recipe(path: Path) -> TrainRecipe:
    """Read a recipe of a whole model from a TOML file.

    Raises:
        UsageError: the file cannot be read, it has an unknown or missing key or an impossible value, or it is of words.
    """
    return _of_a_model(read_stage(path), str(path))


def read_stage(path: Path) -> TrainRecipe | WordsRecipe:
    """Read a recipe from a TOML file: of words with `stage = "words"`, else of a whole model.

    Raises:
        UsageError: the file cannot be read, or it has an unknown or missing key or an impossible value.
    """
    return _recipe_from(read_toml(path, "recipe"), str(path))


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The values of a TOML file; errors call it `what`.

    Raises:
        UsageError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise UsageError(f"cannot read the {what} {path} ({error.strerror}): check the path") from error
    except (ValueError, RecursionError) as error:  # ValueError: TOML, encoding, or a number of thousands of digits
        raise UsageError(f"the {what} {path} is no TOML ({error}): correct that line") from error


def find_recipe(name_or_path: str) -> TrainRecipe:
    """Read a recipe of a whole model that comes with sam-edge, by its name, or any other, by its path.

    Raises:
        UsageError: no such recipe; see also `read_recipe`.
    """
    return _of_a_model(find_stage(name_or_path), name_or_path)


def _of_a_model(recipe: TrainRecipe | WordsRecipe, name: str) -> TrainRecipe:
    if isinstance(recipe, WordsRecipe):
        raise UsageError(f"the recipe {name} trains words: use it with `sam-edge train`, or name another")
    return recipe


def find_stage(name_or_path: str) -> TrainRecipe | WordsRecipe:
    """Read a recipe that comes with sam-edge, by its name, or any other, by its path.

    Raises:
        UsageError: no such recipe; see also `read_stage`.
    """
    shipped = RECIPES_FOLDER / f"{name_or_path}.toml"
    if "/" not in name_or_path and shipped.is_file():
        return read_stage(shipped)
    if not name_or_path.endswith(".toml"):
        names = ", ".join(sorted(path.stem for path in RECIPES_FOLDER.glob("*.toml")))
        raise UsageError(f"no recipe called {name_or_path!r}: choose one of {names}, or name a .toml file")
    return read_stage(Path(name_or_path))


def with_current_keys(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe's plain values, as `TrainRecipe.to_json` returns them, with keys of version 0.1 renamed, and new ones.

    A phase that has the old and the new key keeps both.
    """
    phases = recipe.get("phases")
    recipe = {**NEW_KEYS, **recipe}
    if not isinstance(phases, list):
        return recipe
    return {**recipe, "phases": [_renamed(phase) if isinstance(phase, dict) else phase for phase in phases]}


def _renamed(phase: dict[str, Any]) -> dict[str, Any]:
    """The phase with new keys, and each key of `OLD_PHASE_KEYS` under its new name, unless it has that one too."""
    new_names = {old: new for old, new in OLD_PHASE_KEYS.items() if new not in phase}
    return NEW_PHASE_KEYS | {new_names.get(key, key): value for key, value in phase.items()}


def _recipe_from(values: dict[str, Any], name: str) -> TrainRecipe | WordsRecipe:
    """Build a recipe from TOML's values; error messages begin with `name`."""
    if "stage" in values:
        rest = {key: value for key, value in values.items() if key != "stage"}
        if values["stage"] != WORDS_STAGE:
            raise UsageError(f"{name}: stage = {values['stage']!r:.60} is unknown: write {WORDS_STAGE!r}, or omit it")
        return WordsRecipe(**arguments_of(WordsRecipe, rest, name))
    values = with_current_keys(values)
    phases = tables_of(values, "phases", name)
    try:
        ready = tuple(Phase(**arguments_of(Phase, phase, f"{name}, a phase")) for phase in phases)
        rest = {key: value for key, value in values.items() if key != "phases"}
        return TrainRecipe(**arguments_of(TrainRecipe, rest, name), phases=ready)
    except TypeError as error:
        raise UsageError(f"{name}: {error}") from error


def tables_of(values: dict[str, Any], key: str, name: str) -> list[dict[str, Any]]:
    """TOML's tables of a key; none where it is missing.

    Raises:
        UsageError: the key has something else; the message begins with `name`.
    """
    tables = values.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise UsageError(f"{name}: {key} are tables, each begun with [[{key}]]")
    return tables


def arguments_of(kind: type[Any], values: dict[str, Any], name: str) -> dict[str, Any]:
    """Keyword arguments of a dataclass from TOML's values: lists become tuples.

    Raises:
        UsageError: an unknown or missing key, or a wrong type; the message begins with `name`.
    """
    known = {entry.name: str(entry.type) for entry in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"{name}: {key!r} is unknown; choose one of {', '.join(known)}")
        wanted = known[key]
        if not _has_type(value, wanted):
            raise UsageError(f"{name}: {key} = {value!r} is no {TYPE_NAMES[wanted]}")
    for entry in fields(kind):
        if entry.default is MISSING and entry.name not in values and entry.name != "phases":
            raise UsageError(f"{name} has no {entry.name}: write {entry.name} = ... ({TYPE_NAMES[known[entry.name]]})")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _has_type(value: object, wanted: str) -> bool:
    """Whether a TOML value has the type of a field's annotation; a bool is no number."""
    kinds: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool, "str": str}
    if wanted in kinds:
        return isinstance(value, kinds[wanted]) and isinstance(value, bool) == (wanted == "bool")
    part = wanted.removeprefix("tuple[").partition(",")[0]
    return isinstance(value, (list, tuple)) and all(_has_type(entry, part) for entry in value)
