"""What `sam-edge evaluate` is to measure, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.errors import UsageError

from .automatic import AutomaticFigures
from .edges import EdgeFigures
from .figures import Figures
from .measure import Protocol

BOX, CLICKS, AUTOMATIC, EDGES = "box", "clicks", "automatic", "edges"
PROTOCOLS = (BOX, CLICKS, AUTOMATIC, EDGES)


@dataclass(frozen=True)
class EvaluateJob:
    """What to evaluate.

    Attributes:
        data: sources with masks, as `open_source` takes them; for edges folders as BSDS500's.
        out: folder of the report.
        model: variant of a torch model; None where bundles alone are measured.
        checkpoint: its weights; None for those that come with sam-edge or were downloaded.
        input_side: its frame side; None for the one it was trained for.
        bundles: folders of bundles, after the torch model.
        protocols: of `PROTOCOLS`, in any order.
        clicks: clicks a mask, where they are asked.
        grabcut: whether GrabCut is measured beside it.
        settings: of the search for automatic masks, by the names of `AutomaticSettings`.
        limit: photos of each source at most; None for all.
        pictures: photos drawn for people to judge.
        overwrite: replace an earlier report.

    Raises:
        UsageError: no data, nothing to measure, no such protocol, a number out of range, or weights or a frame side
            without a torch model.
    """

    data: tuple[str, ...]
    out: Path
    model: str | None = "nano"
    checkpoint: str | None = None
    input_side: int | None = None
    bundles: tuple[Path, ...] = ()
    protocols: tuple[str, ...] = (CLICKS,)
    clicks: int = 9
    grabcut: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    pictures: int = 6
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("no data are named: give at least one --data, such as a tar of photos with masks")
        for name in self.protocols:
            if name not in PROTOCOLS:
                raise UsageError(f"--protocol {name!r} is not known: choose of {', '.join(PROTOCOLS)}")
        if self.clicks < 1:
            raise UsageError(f"--clicks {self.clicks} asks for nothing: at least 1, or --protocol box")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} leaves nothing to measure: at least 1")
        if self.pictures < 0:
            raise UsageError(f"--pictures {self.pictures} is not possible: 0 or more")
        if self.model is None and not self.bundles:
            raise UsageError("nothing is named to measure: give --model, or --bundle")
        if self.model is None and (self.checkpoint is not None or self.input_side is not None):
            raise UsageError(
                f"the bundle {self.bundles[0]} has weights and a frame side of its own: leave out --checkpoint and "
                "--input-size, or name the torch model as well, with --model"
            )
        AutomaticSettings.for_variant(self.model or "", **self.settings)  # refused before anything is read

    @property
    def prompted(self) -> Protocol | None:
        """How human masks are asked for, if they are."""
        if CLICKS in self.protocols:
            return Protocol(self.clicks, grabcut=self.grabcut)
        return Protocol(0, grabcut=self.grabcut) if BOX in self.protocols else None


@dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Attributes:
        subjects: descriptions of what was measured.
        figures: of boxes and clicks, a subject and source each.
        automatic: of automatic masks.
        edges: of edges.
        report: the report's folder.
    """

    subjects: tuple[dict[str, Any], ...]
    figures: tuple[Figures, ...]
    automatic: tuple[AutomaticFigures, ...]
    edges: tuple[EdgeFigures, ...]
    report: Path
