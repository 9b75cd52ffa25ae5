"""The recipe of a suite: which models are measured on which data by which protocols, in one TOML file.

    title = "The paper's tasks on three small sets"
    clicks = 9

    [[models]]
    model = "nano"

    [[data]]
    source = "coco/val.tar"
    protocols = ["clicks", "proposals", "instances"]
    boxes = "truth"

The dataclasses check each value when they are made. Paths of data are relative to the folder that `--data` names, or to
the recipe's own; those of bundles and checkpoints to the folder where the command runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sam_edge.data.skips import ALLOWED_BROKEN, SkipLog
from sam_edge.evaluation.job import PROTOCOLS
from sam_edge.evaluation.measure import CENTRE, Protocol
from sam_edge.training.recipe import arguments_of, read_toml, tables_of
from sam_edge_runtime.errors import UsageError

MOST_CELLS = 10_000


@dataclass(frozen=True)
class SuiteModel:
    """A model to measure: a variant in fp32 torch, or a bundle.

    Attributes:
        model: variant; empty for a bundle.
        bundle: its folder; empty for a torch model.
        checkpoint: weights of the torch model; empty for those that come with sam-edge or were downloaded.
        input_side: its frame side in pixels; 0 for the one it was trained for.
        words: its words for the protocol `text`, `shipped` or a file; empty for the shipped ones.
        name: its name in tables; empty for the variant and what it runs as.

    Raises:
        UsageError: not exactly one of `model` and `bundle`, or options of a torch model for a bundle.
    """

    model: str = ""
    bundle: str = ""
    checkpoint: str = ""
    input_side: int = 0
    words: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.bundle):
            raise UsageError("each of [[models]] has either model = ... (a variant) or bundle = ... (a folder)")
        if self.bundle and (self.checkpoint or self.input_side or self.words):
            raise UsageError(f"the bundle {self.bundle} has its own weights, side and words: leave them out")


@dataclass(frozen=True)
class SuiteData:
    """Data, and the protocols that they are measured by.

    Attributes:
        source: photos with masks, as `sam-edge evaluate --data` takes them.
        protocols: some of `PROTOCOLS`.
        name: its name in tables; empty for the end of its path.
        boxes: a detector's results file, or `truth`; for the protocol `instances`.
        annotations: human masks in COCO's or LVIS's layout; empty for the data's own.
        groups: a CSV file with groups; for the protocol `clicks`.
        points_per_side: of the grid of automatic masks and proposals; 0 for the protocol's own.
        limit: largest number of photos; 0 for the suite's.

    Raises:
        UsageError: no protocols, an unknown one, the same twice, or a negative limit.
    """

    source: str
    protocols: tuple[str, ...]
    name: str = ""
    boxes: str = ""
    annotations: str = ""
    groups: str = ""
    points_per_side: int = 0
    limit: int = 0

    def __post_init__(self) -> None:
        for name in self.protocols:
            if name not in PROTOCOLS:
                raise UsageError(f"the protocol {name!r} of {self.source} is unknown: choose {', '.join(PROTOCOLS)}")
        if not self.protocols or len(set(self.protocols)) < len(self.protocols):
            raise UsageError(f"{self.source} has no protocols, or one twice: choose from {', '.join(PROTOCOLS)}")
        if self.limit < 0:
            raise UsageError(f"limit {self.limit} of {self.source} is negative: write 0 for the suite's")


@dataclass(frozen=True)
class Suite:
    """Models, data, and what is common to all of them.

    Attributes:
        models, data: at least one each.
        title: of the page.
        clicks: clicks for each mask.
        first_point: where the first one goes, `centre` or `random`.
        grabcut: whether GrabCut is measured too, for the first model.
        limit: largest number of photos of each source; 0 for all.
        allow_broken: largest accepted share of broken records, 0 to 1.
        notes: free text, shown on the page.

    Raises:
        UsageError: a value out of range.
    """

    models: tuple[SuiteModel, ...] = ()
    data: tuple[SuiteData, ...] = ()
    title: str = "suite"
    clicks: int = 9
    first_point: str = CENTRE
    grabcut: bool = False
    limit: int = 0
    allow_broken: float = ALLOWED_BROKEN
    notes: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, tables in (("models", self.models), ("data", self.data)):
            if not tables:
                raise UsageError(f"the suite has no [[{name}]]: write at least one")
        cells = len(self.models) * sum(len(each.protocols) for each in self.data)
        if cells > MOST_CELLS:
            raise UsageError(f"the suite has {cells} cells (models x data x protocols): {MOST_CELLS} at most")
        if self.clicks < 1 or self.limit < 0:
            raise UsageError(f"clicks {self.clicks} or limit {self.limit} is out of range: write 1 and 0, or more")
        Protocol(self.clicks, first_point=self.first_point)
        SkipLog(self.allow_broken)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `notes` are left out, as they change no figure."""
        return {name: value for name, value in asdict(self).items() if name != "notes"}


def read_suite(path: Path) -> Suite:
    """Read a suite from a TOML file.

    Raises:
        UsageError: the file cannot be read, or it has an unknown or missing key or an impossible value.
    """
    values = read_toml(path, "suite")
    tables = {key: tables_of(values, key, str(path)) for key in ("models", "data")}
    common = arguments_of(Suite, {key: value for key, value in values.items() if key not in tables}, str(path))
    models = tuple(
        SuiteModel(**arguments_of(SuiteModel, each, f"{path}, one of [[models]]")) for each in tables["models"]
    )
    data = tuple(SuiteData(**arguments_of(SuiteData, each, f"{path}, one of [[data]]")) for each in tables["data"])
    return Suite(**common, models=models, data=data)
