"""The job of `sam-edge evaluate`, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam_edge.data.skips import ALLOWED_BROKEN, SkipLog
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.errors import UsageError

from .automatic import AutomaticFigures
from .edges import EdgeFigures
from .figures import Figures
from .measure import Protocol
from .text import TextFigures

BOX, CLICKS, AUTOMATIC, EDGES, TEXT = "box", "clicks", "automatic", "edges", "text"
PROTOCOLS = (BOX, CLICKS, AUTOMATIC, EDGES, TEXT)


@dataclass(frozen=True)
class EvaluateJob:
    """What to measure, on which data.

    Attributes:
        data: sources with masks, as `open_source` takes them; for edges, folders laid out as BSDS500.
        out: folder of the report.
        model: variant of a torch model; None to measure bundles only.
        checkpoint: its weights; None for those that come with sam-edge or were downloaded.
        input_side: its frame side in pixels; None for the one it was trained for.
        bundles: folders of bundles, measured after the torch model.
        protocols: some of `PROTOCOLS`, in any order.
        clicks: clicks for each mask, for the protocol `clicks`.
        grabcut: whether GrabCut is measured too.
        settings: of the automatic mask generator, by the names of `AutomaticSettings`.
        limit: largest number of photos of each source; None for all.
        allow_broken: largest accepted share of broken records, 0..1.
        pictures: number of photos that are drawn in the report.
        overwrite: replace an earlier report.
        words: words of the torch model, for the protocol `text`: `shipped` or a file.

    Raises:
        UsageError: no data, nothing to measure, an unknown protocol, a number out of range, or weights or a frame side
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
    allow_broken: float = ALLOWED_BROKEN
    pictures: int = 6
    overwrite: bool = False
    words: str | None = None

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("no data are given: name at least one --data, such as a tar of photos with masks")
        for name in self.protocols:
            if name not in PROTOCOLS:
                raise UsageError(f"--protocol {name!r} is unknown: choose from {', '.join(PROTOCOLS)}")
        if self.clicks < 1:
            raise UsageError(f"--clicks {self.clicks} is too few: give at least 1, or --protocol box")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} leaves nothing to measure: give at least 1")
        if self.pictures < 0:
            raise UsageError(f"--pictures {self.pictures} is negative: give 0 or more")
        if self.model is None and not self.bundles:
            raise UsageError("there is nothing to measure: give --model or --bundle")
        if self.model is None and (self.checkpoint is not None or self.input_side is not None):
            raise UsageError(
                f"--checkpoint and --input-size are for a torch model, and {self.bundles[0]} is a bundle: leave them "
                "out, or name the torch model too, with --model"
            )
        if self.words is not None and TEXT not in self.protocols:
            raise UsageError(f"--words is for --protocol {TEXT} only: leave it out, or add that")
        SkipLog(self.allow_broken)  # refuses a share outside 0..1
        AutomaticSettings.for_variant(self.model or "", **self.settings)  # refused before anything is read

    @property
    def prompted(self) -> Protocol | None:
        """The protocol of boxes and clicks, or None if neither is measured."""
        if CLICKS in self.protocols:
            return Protocol(self.clicks, grabcut=self.grabcut)
        return Protocol(0, grabcut=self.grabcut) if BOX in self.protocols else None


@dataclass(frozen=True)
class Evaluation:
    """The result of a job.

    Attributes:
        subjects: descriptions of the model and the bundles.
        figures: of boxes and clicks, for each subject and source.
        automatic: of automatic masks, likewise.
        edges: of edges, likewise.
        report: the report's folder.
        text: of words, likewise.
        complaint: what is wrong if too many records are broken; the report is written all the same.
    """

    subjects: tuple[dict[str, Any], ...]
    figures: tuple[Figures, ...]
    automatic: tuple[AutomaticFigures, ...]
    edges: tuple[EdgeFigures, ...]
    text: tuple[TextFigures, ...]
    report: Path
    complaint: str | None = None
