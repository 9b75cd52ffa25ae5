"""A loop of a data engine as a TOML file: photos, rounds, who annotates, and what the model is measured on.

    photos = "coco/train.tar"
    validation = ["coco/val.tar"]
    recipe = "recipe.toml"

    [annotator]
    kind = "simulated"

    [[rounds]]
    stage = "manual"
    photos = 20

    [[rounds]]
    stage = "semi-automatic"
    photos = 20
    settings = { pred_iou_thresh = 0.8 }

    [[rounds]]
    stage = "automatic"
    photos = 100

Paths of photos and validation data are relative to the folder that `--data` names, or to the file's own. `recipe` is a
name or a path beside the file; its own data are replaced by the masks of the rounds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sam_edge.model.sam import check_side
from sam_edge.model.variants import check_variant
from sam_edge.training.ranges import check_integer, check_positive
from sam_edge.training.recipe import RECIPES_FOLDER, TrainRecipe, arguments_of, find_recipe, read_toml, tables_of
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.errors import UsageError

from .habits import SIMULATED, Habits
from .stages import MANUAL, STAGES

SHORT_SIDE = 1500  # pixels, as SA-1B was released (arXiv 2304.02643, section 5)
MOST_ROUNDS = 99
PEOPLE_WEIGHT = 10.0  # as in the paper, which drew people's masks ten times as often (section 7.6, "Data")
# nano's usual thresholds are for showing masks. A wrong mask in the training data costs more than one that people draw
# (figures in docs/engine.md).
CONFIDENT = {"pred_iou_thresh": 0.88, "stability_score_thresh": 0.85}


@dataclass(frozen=True)
class Round:
    """One round: new photos get masks, then the model is trained.

    Attributes:
        stage: of `STAGES`.
        photos: new photos of the round.
        recipe: of its training; empty for the loop's.
        settings: of the automatic masks, by the names of `AutomaticSettings`; others are those of `confident`.

    Raises:
        UsageError: an unknown stage, no photos, or settings where no automatic masks are made.
    """

    stage: str
    photos: int
    recipe: str = ""
    settings: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise UsageError(f"no stage called {self.stage!r:.60}: choose one of {', '.join(STAGES)}")
        if self.photos < 1:
            raise UsageError(f"a round of {self.photos} photos annotates nothing: write at least 1")
        if self.settings and self.stage == MANUAL:
            raise UsageError(f"settings are for automatic masks, and the stage {MANUAL} has none: leave them out")


@dataclass(frozen=True)
class Loop:
    """A data engine.

    Attributes:
        photos: source of the photos. The simulated annotator draws from its masks.
        validation: sources with masks on which each round's model is measured.
        recipe: of the training.
        rounds: at least one, in the order of `STAGES`.
        annotator: who annotates.
        model: variant.
        init: weights to begin with; empty for those that are shipped or downloaded.
        input_side: frame side of the model in use, in pixels; 0 for the one that the variant was trained for.
        short_side: larger photos are made smaller until their shorter side has this many pixels; 0 leaves them.
        people_weight: of a mask that people drew in training, where an automatic one has 1. A round's photos are drawn
            as often as its masks weigh on average.
        clicks: of the evaluation.
        limit: largest number of photos of each validation source; 0 for all.
        seed: of the order of photos and of the simulated annotator.
        notes: free text; it may change in a loop that goes on.

    Raises:
        UsageError: a value out of range, or stages out of order.
    """

    photos: str
    validation: tuple[str, ...]
    recipe: str
    rounds: tuple[Round, ...] = ()
    annotator: Habits = Habits()  # noqa: RUF009 - frozen
    model: str = "nano"
    init: str = ""
    input_side: int = 0
    short_side: int = SHORT_SIDE
    people_weight: float = PEOPLE_WEIGHT
    clicks: int = 3
    limit: int = 0
    seed: int = 0
    notes: str = ""

    def __post_init__(self) -> None:
        check_variant(self.model)
        if self.input_side:
            check_side(self.input_side)
        if not self.photos or not self.validation:
            raise UsageError("a loop needs photos and validation data: write photos = '...' and validation = ['...']")
        if not 1 <= len(self.rounds) <= MOST_ROUNDS:
            raise UsageError(f"the loop has {len(self.rounds)} [[rounds]]: write 1 to {MOST_ROUNDS}")
        for earlier, later in pairwise(self.rounds):
            if STAGES.index(later.stage) < STAGES.index(earlier.stage):
                raise UsageError(
                    f"the stage {later.stage} comes after {earlier.stage}: the order is {', '.join(STAGES)}"
                )
        for each in self.rounds:
            AutomaticSettings.for_variant(self.model, **(each.settings or {}))
        check_positive("people_weight", self.people_weight)
        for name, least in {"short_side": 0, "clicks": 1, "limit": 0, "seed": 0}.items():
            check_integer(name, getattr(self, name), least)

    @property
    def people(self) -> bool:
        """Whether people annotate, on the page."""
        return self.annotator.kind != SIMULATED

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the notes, to compare two loops."""
        return {name: value for name, value in asdict(self).items() if name != "notes"}


def confident(model: str, given: dict[str, Any] | None) -> dict[str, Any]:
    """Settings of automatic masks that are good enough to train on.

    Args:
        model: variant, whose own thresholds count where they are higher than `CONFIDENT`.
        given: settings that replace these.
    """
    usual = AutomaticSettings.for_variant(model)
    return {**{name: max(getattr(usual, name), least) for name, least in CONFIDENT.items()}, **(given or {})}


def read_loop(path: Path) -> Loop:
    """Read a loop.

    Raises:
        UsageError: the file cannot be read, or it has an unknown or missing key or an impossible value.
    """
    values = read_toml(path, "loop")
    rounds, annotator = tables_of(values, "rounds", str(path)), values.pop("annotator", {})
    values.pop("rounds", None)
    if not isinstance(annotator, dict):
        raise UsageError(f"{path}: the annotator is a table, begun with [annotator]")
    common = arguments_of(Loop, values, str(path))
    habits = Habits(**arguments_of(Habits, annotator, f"{path}, [annotator]"))
    return Loop(**common, rounds=tuple(_round(each, f"{path}, a round") for each in rounds), annotator=habits)


def _round(values: dict[str, Any], name: str) -> Round:
    settings = values.get("settings", {})
    if not isinstance(settings, dict):
        raise UsageError(f"{name}: settings are a table, such as {{ pred_iou_thresh = 0.8 }}")
    given = {key: value for key, value in values.items() if key != "settings"}
    return Round(**arguments_of(Round, given, name), settings=settings or None)


def recipes_of(loop: Loop, folder: Path) -> tuple[TrainRecipe, ...]:
    """The recipe of each round's training; paths are relative to `folder`.

    Raises:
        UsageError: a recipe cannot be used, or is for another model.
    """
    recipes = []
    for each in loop.rounds:
        name = each.recipe or loop.recipe
        shipped = "/" not in name and (RECIPES_FOLDER / f"{name}.toml").is_file()
        recipe = find_recipe(name if shipped or not name.endswith(".toml") else str(folder / name))
        if recipe.model != loop.model:
            raise UsageError(f"the recipe {name} trains {recipe.model}, and the loop is for {loop.model}: change one")
        recipes.append(recipe)
    return tuple(recipes)
