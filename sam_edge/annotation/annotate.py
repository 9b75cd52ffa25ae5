"""`sam-edge annotate`: photos in, SA-1B shards out, in several processes and on several hosts.

A piece is one output shard. Process p of P annotates every P-th piece. Launchers (torchrun, `accelerate launch`) number
processes over hosts in RANK and WORLD_SIZE, and each of these may start several with `processes`. Processes do not
communicate, so none waits for another, and none fails with another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam_edge.data.sources import Source, open_source
from sam_edge.prediction.naming import Namer
from sam_edge.prediction.promptable import SHIPPED_WORDS, Promptable, opened
from sam_edge.reporting.settings import written_settings
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.document import FILE_NAME
from sam_edge_runtime.errors import DataError, OutputError, UsageError
from sam_edge_runtime.system.cores import usable_cores
from sam_edge_runtime.system.files import sha256_of

from .pieces import WORK, Piece, PieceFolder, divide
from .processes import Send, events_of
from .short_side import shrunk
from .worker import annotate_piece

SETTINGS_FILE = "annotation.json"
FORMAT = "sam-edge-annotations"
RECORDS = 1000  # of an output shard
Progress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class AnnotateJob:
    """The photos, the model and the output.

    Attributes:
        source: path or pattern, as `open_source` takes it.
        out: folder for the shards; a run with the same settings is resumed.
        bundle: folder of the bundle to run; None for the torch model.
        model: variant of the torch model.
        checkpoint: its weights; None for those that come with sam-edge or were downloaded.
        settings: of the mask generator, by the names of `AutomaticSettings`; others have values that suit the model.
        existing: keep the masks of the source, and search only what they do not cover.
        records: photos in an output shard.
        processes: number of processes on this machine.
        words: names to give to masks where they fit; none: masks get no names.
        short_side: larger photos are made smaller until their shorter side has this many pixels; None: they are not.

    Raises:
        UsageError: a number out of range.
    """

    source: str
    out: Path
    bundle: Path | None = None
    model: str = "nano"
    checkpoint: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    existing: bool = False
    records: int = RECORDS
    processes: int = 1
    words: tuple[str, ...] = ()
    short_side: int | None = None

    def __post_init__(self) -> None:
        for option, value in (("--records-per-shard", self.records), ("--processes", self.processes)):
            if value < 1:
                raise UsageError(f"{option} {value} is too few: give at least 1")
        AutomaticSettings.for_variant(self.model, **self.settings)  # refused before anything is read


@dataclass(frozen=True)
class Annotated:
    """The result for this host's share: the number of annotated photos, and by name why others failed."""

    photos: int
    failures: dict[str, str]


def annotate(job: AnnotateJob, progress: Progress = lambda done, failed, total: None) -> Annotated:
    """Annotate this host's share of the source. Photos of an earlier run are not done again.

    Args:
        job: the photos, the model and the output.
        progress: called with the photos of the share that are done, those of them that failed, and all of them.

    Raises:
        DataError: there are no photos, no masks although they are to be kept, or a process was killed.
        OutputError: the folder holds something else, or another run's shards.
        UsageError, CheckpointError, BundleError, BackendError: the model cannot be loaded, or failed.
    """
    source = shrunk(open_source(job.source), job.short_side)
    if job.existing and not source.annotated:
        raise DataError(f"{job.source} has photos without masks, so --existing has nothing to keep: leave it out")
    pieces = divide(source, job.records)
    if job.words:
        Namer(_open(job, 1), job.words)  # refuses unknown words before anything is written
    _settle(job, source)
    rank, world = place_among_hosts()
    own = pieces[rank::world]
    total = sum(len(piece.numbers) for piece in own)
    done = total - sum(len(PieceFolder(job.out, piece).open_numbers()) for piece in own)
    failed = 0
    progress(done, failed, total)
    unpacked = [piece for piece in own if not PieceFolder(job.out, piece).complete]
    processes = min(job.processes, len(unpacked))
    shares = [(job, unpacked[n::processes], processes) for n in range(processes)]
    for kind, _ in events_of(_work, shares, remedy="finished photos are kept, so run the same command to resume"):
        done, failed = done + 1, failed + (kind == "failed")
        progress(done, failed, total)
    failures = {
        f"{piece.name}/{key}": reason for piece in own for key, reason in PieceFolder(job.out, piece).failures().items()
    }
    if failures and len(failures) == total:
        raise DataError(f"none of the {total} photos could be used: {next(iter(failures.values()))}")
    _remove_work(job, own)
    return Annotated(total - len(failures), failures)


def _remove_work(job: AnnotateJob, own: Sequence[Piece]) -> None:
    """Remove the working files of complete pieces, which a process that outlived its killed parent may have left."""
    work = job.out / WORK
    with suppress(OSError):  # there are none, or other hosts are still at work
        left = {path.name.removeprefix(".").partition(".")[0] for path in work.iterdir()}
        for folder in (PieceFolder(job.out, piece) for piece in own if piece.name in left):
            if folder.complete:
                folder.clear()
        work.rmdir()


def place_among_hosts() -> tuple[int, int]:
    """RANK and WORLD_SIZE, which launchers set: this process's number, and the number of processes.

    Raises:
        UsageError: they are not numbers, or do not fit.
    """
    try:
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise UsageError(
            f"RANK and WORLD_SIZE of the environment are not numbers ({error}): unset them, or start with a launcher"
        ) from error
    if not 0 <= rank < world:
        raise UsageError(f"RANK {rank} and WORLD_SIZE {world} of the environment do not fit: RANK counts from 0")
    return rank, world


def _settle(job: AnnotateJob, source: Source) -> None:
    """Write the run's settings to the output folder, or compare them with those that are there.

    Raises:
        BundleError: the bundle is not valid.
        OutputError: the folder holds something else, or shards of other settings.
    """
    variant, model = job.model, f"{job.model} {job.checkpoint or ''}".strip()
    if job.bundle is not None:
        bundle = Bundle.open(job.bundle)
        variant, model = bundle.manifest.variant, f"bundle {sha256_of(bundle.root / FILE_NAME)}"
    names = hashlib.sha256()
    for number in range(len(source)):
        names.update(f"{source.record_name(number)[1]}\n".encode("utf-8", "surrogateescape"))
    wanted = {
        "format": FORMAT,
        "model": model,
        "settings": vars(AutomaticSettings.for_variant(variant, **job.settings)),
        "existing": job.existing,
        "records_per_shard": job.records,
        "photos": len(source),
        "names": names.hexdigest(),
        **({"words": list(job.words)} if job.words else {}),
        **({} if job.short_side is None else {"short_side": job.short_side}),
    }
    written = written_settings(job.out / SETTINGS_FILE, wanted, "annotations of sam-edge")
    wanted = json.loads(json.dumps(wanted))
    different = [name for name in wanted if written.get(name) != wanted[name]]
    if different:
        name = different[0]
        other = written.get(name)
        raise OutputError(
            f"{job.out} holds another run, whose {name} is {other!r} and not {wanted[name]!r}: choose another folder, "
            "or give the same options as before to resume it"
        )


def _work(work: tuple[AnnotateJob, Sequence[Piece], int], send: Send) -> None:
    """The work of one process."""
    job, pieces, processes = work
    source = shrunk(open_source(job.source), job.short_side)
    subject = _open(job, processes)
    generator = subject.mask_generator(job.settings)
    namer = Namer(subject, job.words) if job.words else None
    for piece in pieces:
        annotate_piece(PieceFolder(job.out, piece), source, generator, job.existing, send, namer)


def _open(job: AnnotateJob, processes: int) -> Promptable:
    """Open the bundle or the model, with this process's share of the cores."""
    cores = usable_cores()
    threads = max(1, cores // processes)
    if job.bundle is not None:
        return opened(job.bundle, job.model, job.checkpoint, threads)
    subject = opened(None, job.model, job.checkpoint, words=SHIPPED_WORDS if job.words else None)
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    return subject
