"""The job of `sam-edge evaluate`, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam_edge.data.skips import ALLOWED_BROKEN, SkipLog
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.errors import UsageError

from .against import AgainstFigures
from .automatic import AutomaticFigures
from .detections import TRUTH
from .edges import EdgeFigures
from .figures import Figures
from .groups import LEAST_CLICKS, GroupedFigures
from .instances import InstanceFigures
from .measure import CENTRE, Protocol
from .proposals import ProposalFigures
from .text import TextFigures

BOX, CLICKS, AUTOMATIC, EDGES, TEXT = "box", "clicks", "automatic", "edges", "text"
PROPOSALS, INSTANCES = "proposals", "instances"
PROTOCOLS = (BOX, CLICKS, AUTOMATIC, EDGES, PROPOSALS, INSTANCES, TEXT)


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
        boxes: for `instances`: COCO's results file of a detector, or `truth` for the boxes of the human masks.
        annotations: for `instances` and `proposals`: a file in COCO's or LVIS's layout; None for the data's own masks.
        against: for `clicks`: a second model to compare with: a bundle's folder, VARIANT or VARIANT=CHECKPOINT.
        groups: for `clicks`: a CSV file that says to which group each photo or mask belongs.
        first_point: for `clicks`: `centre` or `random`.
        threads: of each model; None for one for each core.

    Raises:
        UsageError: no data, nothing to measure, an unknown protocol, a number out of range, weights or a frame side
            without a torch model, or an option of a protocol that is not asked for.
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
    boxes: str | None = None
    annotations: Path | None = None
    against: str | None = None
    groups: Path | None = None
    first_point: str = CENTRE
    threads: int | None = None

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
        self._check_options()
        SkipLog(self.allow_broken)  # refuses a share outside 0..1
        AutomaticSettings.for_variant(self.model or "", **self.settings)  # refused before anything is read

    def _check_options(self) -> None:
        """Refuse options whose protocol is not asked for, and protocols without the option that they need."""
        for option, value, owners in (
            ("--words", self.words, (TEXT,)),
            ("--boxes", self.boxes, (INSTANCES,)),
            ("--annotations", self.annotations, (INSTANCES, PROPOSALS)),
            ("--against", self.against, (CLICKS,)),
            ("--groups", self.groups, (CLICKS,)),
        ):
            if value is not None and not set(owners) & set(self.protocols):
                raise UsageError(f"{option} is for --protocol {' and '.join(owners)} only: leave it out, or add that")
        if INSTANCES in self.protocols and self.boxes is None:
            raise UsageError(
                f"--protocol {INSTANCES} needs --boxes: a detector's results in COCO's form, or {TRUTH} for the boxes "
                "of the human masks"
            )
        for option, single in (("--boxes", self.boxes not in (None, TRUTH)), ("--annotations", self.annotations)):
            if single and len(self.data) > 1:
                raise UsageError(f"{option} names one file, and there are {len(self.data)} --data: give one at a time")
        if self.against is not None and (self.model is not None) + len(self.bundles) != 1:
            raise UsageError("--against compares two models: give one --model or one --bundle beside it")
        if self.groups is not None and self.clicks < LEAST_CLICKS:
            raise UsageError(f"--groups measures up to {LEAST_CLICKS} points: give --clicks {LEAST_CLICKS} or more")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads {self.threads} is too few: give at least 1")
        Protocol(self.clicks, grabcut=self.grabcut, first_point=self.first_point)

    @property
    def prompted(self) -> Protocol | None:
        """The protocol of boxes and clicks, or None if neither is measured."""
        if CLICKS in self.protocols:
            return Protocol(self.clicks, grabcut=self.grabcut, first_point=self.first_point)
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
        proposals: of object proposals, likewise.
        instances: of instance segmentation, likewise.
        against: the comparison with the second model, for each source.
        groups: by group, for each subject and source.
        complaint: what is wrong if too many records are broken; the report is written all the same.
    """

    subjects: tuple[dict[str, Any], ...]
    figures: tuple[Figures, ...]
    automatic: tuple[AutomaticFigures, ...]
    edges: tuple[EdgeFigures, ...]
    text: tuple[TextFigures, ...]
    report: Path
    proposals: tuple[ProposalFigures, ...] = ()
    instances: tuple[InstanceFigures, ...] = ()
    against: tuple[AgainstFigures, ...] = ()
    groups: tuple[GroupedFigures, ...] = ()
    complaint: str | None = None
