"""`sam-edge annotate`: photos in, SA-1B shards out, in several processes and on several hosts.

Pieces are dealt out by number: process p of P takes every P-th. Launchers (torchrun, `accelerate launch`) number
processes over hosts in RANK and WORLD_SIZE; each of these may have several of its own with `processes`. Nothing is
said between them, so that none waits for another and none is lost with another.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sam_edge.data.sources import Source, open_source
from sam_edge.prediction.promptable import Promptable, opened
from sam_edge.training.interrupt import leave_to_parent
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.manifest import FILE_NAME
from sam_edge_runtime.errors import DataError, OutputError, SamEdgeError, UsageError
from sam_edge_runtime.system.cores import usable_cores
from sam_edge_runtime.system.files import sha256_of, write_file

from .pieces import WORK, Piece, PieceFolder, divide
from .worker import annotate_piece

SETTINGS_FILE = "annotation.json"
FORMAT = "sam-edge-annotations"
RECORDS = 1000  # of an output shard
END, ERROR, LOST = "end", "error", "lost"  # what else a process may tell, or be
Progress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class AnnotateJob:
    """What to annotate, with what, and where to.

    Attributes:
        source: as `open_source` takes it.
        out: folder of the shards; one of the same settings is gone on with.
        bundle: what answers; None: the torch model.
        model: its variant.
        checkpoint: its weights; None for those that come with sam-edge or were downloaded.
        settings: of the search, by the names of `AutomaticSettings`; what is not named suits the model.
        existing: keep the masks that the source has, and look for others where they are not.
        records: photos of an output shard.
        processes: on this machine.

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

    def __post_init__(self) -> None:
        for option, value in (("--records-per-shard", self.records), ("--processes", self.processes)):
            if value < 1:
                raise UsageError(f"{option} {value} is too few: at least 1")
        AutomaticSettings.for_variant(self.model, **self.settings)  # refused before anything is read


@dataclass(frozen=True)
class Annotated:
    """What came of it: of this host's share how many photos are done, and why others failed, by name."""

    photos: int
    failures: dict[str, str]


def annotate(job: AnnotateJob, progress: Progress = lambda done, failed, total: None) -> Annotated:
    """Annotate this host's share of the source; what was done before is not done again.

    Args:
        job: what and where to.
        progress: told how many photos of the share are done, how many of these failed, and how many there are.

    Raises:
        DataError: there are no photos, no masks where they were to be kept, or a process was ended.
        OutputError: the folder holds something else, or another run's shards.
        UsageError, CheckpointError, BundleError, BackendError: the model cannot be had, or failed.
    """
    source = open_source(job.source)
    if job.existing and not source.annotated:
        raise DataError(f"{job.source} has photos without masks, and --existing keeps masks: leave it out")
    pieces = divide(source, job.records)
    _settle(job, source)
    rank, world = place_among_hosts()
    own = pieces[rank::world]
    total = sum(len(piece.numbers) for piece in own)
    done = total - sum(len(PieceFolder(job.out, piece).open_numbers()) for piece in own)
    failed = 0
    progress(done, failed, total)
    unpacked = [piece for piece in own if not PieceFolder(job.out, piece).complete]
    for kind, _ in _events(job, unpacked):
        done, failed = done + 1, failed + (kind == "failed")
        progress(done, failed, total)
    failures = {
        f"{piece.name}/{key}": reason for piece in own for key, reason in PieceFolder(job.out, piece).failures().items()
    }
    if failures and len(failures) == total:
        raise DataError(f"none of the {total} photos could be used: {next(iter(failures.values()))}")
    with suppress(OSError):  # other hosts may still be at work
        (job.out / WORK).rmdir()
    return Annotated(total - len(failures), failures)


def place_among_hosts() -> tuple[int, int]:
    """This process's number and how many there are, as launchers say.

    Raises:
        UsageError: what they say is no number.
    """
    try:
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise UsageError(f"RANK and WORLD_SIZE of the environment are no numbers ({error})") from error
    if not 0 <= rank < world:
        raise UsageError(f"RANK {rank} and WORLD_SIZE {world} of the environment do not fit: RANK counts from 0")
    return rank, world


def _settle(job: AnnotateJob, source: Source) -> None:
    """Write down the run's settings, or compare them with those that are there.

    Raises:
        BundleError: the bundle is none.
        OutputError: the folder holds something else, or shards of other settings.
    """
    variant, answering = job.model, f"{job.model} {job.checkpoint or ''}".strip()
    if job.bundle is not None:
        bundle = Bundle.open(job.bundle)
        variant, answering = bundle.manifest.variant, f"bundle {sha256_of(bundle.root / FILE_NAME)}"
    names = hashlib.sha256()
    for number in range(len(source)):
        names.update(f"{source.record_name(number)[1]}\n".encode("utf-8", "surrogateescape"))
    wanted = {
        "format": FORMAT,
        "model": answering,
        "settings": vars(AutomaticSettings.for_variant(variant, **job.settings)),
        "existing": job.existing,
        "records_per_shard": job.records,
        "photos": len(source),
        "names": names.hexdigest(),
    }
    path = job.out / SETTINGS_FILE
    if not path.exists():
        if job.out.exists() and (not job.out.is_dir() or any(job.out.iterdir())):
            raise OutputError(f"{job.out} exists and holds no annotations of sam-edge: choose another folder")
        with suppress(OutputError):  # a process beside this one may have been faster; then it is read
            write_file(path, (json.dumps(wanted, indent=1) + "\n").encode(), overwrite=False)
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read ({error}): choose another folder") from error
    wanted = json.loads(json.dumps(wanted))
    different = [name for name in wanted if not isinstance(found, dict) or found.get(name) != wanted[name]]
    if different:
        name = different[0]
        other = found.get(name) if isinstance(found, dict) else None
        raise OutputError(
            f"{job.out} holds another run, whose {name} is {other!r} and not {wanted[name]!r}: choose another folder, "
            "or run it as before to go on"
        )


def _events(job: AnnotateJob, pieces: Sequence[Piece]) -> Iterator[tuple[str, str]]:
    """Annotate pieces, and tell of each photo.

    Each process has a pipe of its own: one that is killed leaves no lock behind that others wait for.
    """
    context = multiprocessing.get_context("spawn")
    count = min(job.processes, len(pieces))
    workers: dict[Connection, BaseProcess] = {}
    for n in range(count):
        ours, theirs = context.Pipe(duplex=False)
        workers[ours] = context.Process(target=_work, args=(job, pieces[n::count], count, theirs))
        workers[ours].start()
        theirs.close()
    try:
        yield from _until_all_ended(workers)
    finally:
        for worker in workers.values():
            worker.terminate()
            worker.join()


def _until_all_ended(workers: Mapping[Connection, BaseProcess]) -> Iterator[tuple[str, str]]:
    waiting, lost = set(workers), []
    while waiting:
        ready = wait(list(waiting))
        for pipe in [each for each in waiting if each in ready]:
            try:
                kind, what = pipe.recv()
            except (EOFError, OSError):
                kind, what = LOST, ""
            if kind == ERROR:
                raise DataError(what)
            if kind in (END, LOST):
                waiting.remove(pipe)
                lost += [workers[pipe]] if kind == LOST else []
            else:
                yield kind, what
    if lost:
        lost[0].join()
        raise DataError(
            f"{len(lost)} of {len(workers)} processes were ended from outside (exit code {lost[0].exitcode}); what is "
            "finished is kept, and the same command goes on"
        )


def _work(job: AnnotateJob, pieces: Sequence[Piece], processes: int, events: Connection) -> None:
    """What each process does."""
    leave_to_parent(0)
    try:
        try:
            source = open_source(job.source)
            finds = _subject(job, processes).mask_generator(job.settings)
            for piece in pieces:
                folder = PieceFolder(job.out, piece)
                annotate_piece(folder, source, finds, job.existing, lambda *event: events.send(event))
            events.send((END, ""))
        except SamEdgeError as error:
            events.send((ERROR, str(error)))
    except BrokenPipeError:  # whoever started this process is gone, and may have begun again
        return


def _subject(job: AnnotateJob, processes: int) -> Promptable:
    """What answers, with this process's share of the cores."""
    cores = usable_cores()
    threads = max(1, cores // processes)
    if job.bundle is not None:
        return opened(job.bundle, job.model, job.checkpoint, threads)
    subject = opened(None, job.model, job.checkpoint)
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    return subject
