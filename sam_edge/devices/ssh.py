"""Bundles on a host that SSH reaches, such as a Raspberry Pi or a Jetson: copy, measure there, fetch the figures.

`sam_edge_runtime`, the bundles and the photo are copied in one tar over the connection. The host needs Python, numpy,
Pillow and the engine of each target, but no torch, scp or rsync. Packages and free space are checked before copying.
There `python -m sam_edge_runtime.benchmark` measures as `sam-edge benchmark` does here, so figures of two machines
differ only by the machine. The folder on the host is removed at the end in any case (ssh_connection.py).

The resulting document comes from another machine, so its format is checked before it is used.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

import sam_edge_runtime
from sam_edge_runtime.benchmark.host import FORMAT, FORMAT_VERSION, Contestant, contestants
from sam_edge_runtime.benchmark.rounds import Progress, Rounds
from sam_edge_runtime.bundle.bundle import REPORT_FILE, Bundle
from sam_edge_runtime.bundle.document import FILE_NAME
from sam_edge_runtime.errors import BackendError, UsageError
from sam_edge_runtime.photo.read import read_photo

from . import ssh_requirements
from .interruption import interruptible
from .ssh_connection import Connection, connected, is_disk_full, plain
from .ssh_options import SshOptions
from .ssh_requirements import MARK, OLDEST

__all__ = ["SshOptions", "benchmark_ssh"]

MARGIN = 64 << 20  # bytes besides the copied files: the photo's pixels, compiled modules, the result
RESULT = "result.json"
MEGABYTE = 1_000_000
KILLED = 137  # 128 + SIGKILL
_FIND_PYTHON = (
    'cd; p=$(command -v "$1") || exit 127; case $p in /*) ;; *) p=$PWD/$p ;; esac; echo "sam-edge-python:$p"; '
    """exec "$p" -c 'import sys; print("sam-edge-version:%d.%d" % sys.version_info[:2])'"""
)
_PROGRESS = re.compile(r"(.+) (\d+)/(\d+)")
_LAST_LINES = 20


def benchmark_ssh(
    bundles: Mapping[str, Bundle],
    options: SshOptions,
    rounds: Rounds,
    threads: Sequence[int | None] = (None,),
    provider: str | None = None,
    photo: Path | None = None,
    show: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Measure bundles side by side on a host.

    Args:
        bundles: by their names in tables; ratios are to the first.
        options: the host.
        rounds: number of rounds.
        threads: numbers of the engine's threads, each measured; None alone leaves the number to the engine.
        provider: execution provider of the host's engine; None for the CPU.
        photo: file to click on; None for a picture of the first bundle.
        show: called with what is being done, how much is done, and how much there is.

    Returns:
        The document of `sam_edge_runtime.benchmark.host.measure` on the host; `machine` is the host's.

    Raises:
        UsageError: a bad argument, or no `ssh` on this machine.
        PhotoError: the photo cannot be read.
        BackendError: the host cannot be reached, lacks a package or space, or failed; or the connection was lost.
    """
    entries = contestants(bundles, threads, provider)
    if not entries:
        raise UsageError("no bundle is given: name at least one")
    if len(threads) > 1 and None in threads:
        raise UsageError("the engine's default number of threads cannot be measured beside others: give numbers only")
    if photo is not None:
        read_photo(photo)
    with interruptible():
        show(f"connecting to {options.host}", 0, 0)
        with connected(options) as connection:
            show(f"looking at {options.host}", 0, 0)
            python = _find_python(connection)
            files = _files(bundles.values(), photo)
            _check_host(connection, python, [bundle.manifest.target for bundle in bundles.values()], files)
            _copy(connection, files, show)
            connection.call([python, "-m", "compileall", "-q", "runtime"])  # as pip does, so that it is not timed
            _measure(connection, [python, *_arguments(bundles, rounds, threads, provider, photo)], show)
            return checked_document(connection.call(["cat", RESULT]).stdout, options.host, entries)


def checked_document(text: bytes, host: str, entries: Sequence[Contestant]) -> dict[str, Any]:
    """Parse the document `text` from `host`, and check that it is about `entries`.

    Raises:
        BackendError: it is no benchmark, has another version, or is about other bundles.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BackendError(f"{host} sent no benchmark ({text[:40]!r}): run this again")
    if document.get("version") != FORMAT_VERSION:
        raise BackendError(
            f"the benchmark from {host} has version {document.get('version')!r}, and {FORMAT_VERSION} is expected: "
            "check whether another sam_edge_runtime is imported there instead of the copied one"
        )
    machine, rows, others = (document.get(key) for key in ("machine", "bundles", "not_measured"))
    if isinstance(rows, list) and isinstance(others, dict) and isinstance(machine, dict):
        named = [row.get("name") if isinstance(row, dict) else None for row in rows]
        if rows and sorted([*map(str, named), *others]) == sorted(each.name for each in entries):
            return document
    raise BackendError(f"the benchmark from {host} is not about these bundles: run this again")


def host_failure(host: str, code: int, lines: Sequence[str]) -> BackendError:
    """The error for a benchmark on `host` that ended with exit code `code` and the last lines `lines`."""
    said = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)
    last = next((line.strip()[:200] for line in reversed(lines) if line.strip() and line != f"error: {said}"), "")
    if is_disk_full("\n".join(lines)):
        return BackendError(f"{host} ran out of space: free some, or name another folder there")
    if said is not None:
        return BackendError(f"{host}: {said}" + (f" ({last})" if last and "is above" in said else ""))
    if code == KILLED:
        return BackendError(
            f"the benchmark on {host} was killed, as when memory runs out: measure fewer bundles at once, or a "
            "smaller one"
        )
    return BackendError(
        f"Python on {host} ended with exit code {code} ({last or 'no message'}): check whether it and its "
        "packages work there, or name another Python"
    )


def _find_python(connection: Connection) -> str:
    """The path of the Python interpreter on the host."""
    host, wanted = connection.options.host, connection.options.python
    # Sessions start in the home folder; a quoted `~` would not be expanded.
    output = connection.call(["sh", "-c", _FIND_PYTHON, "sh", wanted.removeprefix("~/")])
    said = dict(line.split(":", 1) for line in output.stdout.decode(errors="replace").splitlines() if ":" in line)
    found, version = said.get("sam-edge-python"), said.get("sam-edge-version", "")
    numbers = re.fullmatch(r"(\d+)\.(\d+)", version)
    if found is None or numbers is None:
        raise BackendError(
            f"there is no Python '{wanted}' on {host}: install it (Debian, Ubuntu: sudo apt install python3), or name "
            "its full path there"
        )
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise BackendError(
            f"'{wanted}' on {host} is Python {version}, and {OLDEST[0]}.{OLDEST[1]} is the oldest supported: "
            "install a newer one there, and name its path"
        )
    return found


def _check_host(connection: Connection, python: str, targets: Sequence[str], files: Mapping[str, Path]) -> None:
    """Refuse a host that lacks a package or space, before anything is copied."""
    options = connection.options
    program = Path(ssh_requirements.__file__).read_bytes()
    output = connection.call([python, "-", *sorted(set(targets))], lambda stream: stream.write(program))
    lines = [line for line in output.stdout.decode(errors="replace").splitlines() if line.startswith(MARK)]
    if not lines:
        raise host_failure(options.host, output.code, output.stderr.splitlines()[-_LAST_LINES:])
    missing, free = _facts(lines[-1].removeprefix(MARK), options.host)
    if missing:
        reasons = ", ".join(f"{name} ({reason[:120]})" for name, reason in missing.items())
        raise BackendError(
            f"'{options.python}' on {options.host} cannot import {reasons}: run `{options.python} -m pip install "
            f"{' '.join(missing)}` there, in an environment if it asks for one, or name a Python that has them"
        )
    needed, place = sum(path.stat().st_size for path in files.values()) + MARGIN, PurePosixPath(connection.folder)
    if free < needed:
        raise BackendError(
            f"{options.host} has {free / MEGABYTE:.0f} MB free in {place.parent} and "
            f"{needed / MEGABYTE:.0f} MB are needed: free some, or name another folder there, such as /var/tmp"
        )


def _facts(text: str, host: str) -> tuple[dict[str, str], int]:
    """Missing packages of the host with reasons, and its free bytes."""
    try:
        found = json.loads(text)
        return {plain(name): plain(str(reason)) for name, reason in found["missing"].items()}, int(found["free"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BackendError(f"{host} did not report its packages ({text[:40]!r}): run this again") from error


def _files(bundles: Iterable[Bundle], photo: Path | None) -> dict[str, Path]:
    """All files to copy, by their path on the host."""
    package = Path(sam_edge_runtime.__file__).parent
    files = {
        f"runtime/{package.name}/{path.relative_to(package).as_posix()}": path
        for path in sorted(package.rglob("*"))
        if path.is_file() and path.parent.name != "__pycache__"
    }
    for number, bundle in enumerate(bundles):
        names = dict.fromkeys((FILE_NAME, *bundle.manifest.files, REPORT_FILE))
        files |= {f"bundles/{number}/{name}": bundle.root / name for name in names if (bundle.root / name).is_file()}
    return files if photo is None else {**files, _photo_name(photo): photo}


def _copy(connection: Connection, files: Mapping[str, Path], show: Progress) -> None:
    """Copy the files as a tar stream."""
    total = sum(path.stat().st_size for path in files.values())

    def write(stream: IO[bytes]) -> None:
        done = 0
        # GNU format, because small `tar` programs on boards cannot read pax.
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as archive:
            for name, path in files.items():
                with path.open("rb") as content:
                    entry = tarfile.TarInfo(name)
                    entry.size, entry.mtime = path.stat().st_size, int(path.stat().st_mtime)
                    archive.addfile(entry, _Counted(content, done, total, show))
                    done += entry.size

    output = connection.call(["tar", "-xf", "-"], write)
    if output.code:
        raise _copy_failure(connection.options.host, output.stderr)


def _copy_failure(host: str, said: str) -> BackendError:
    if is_disk_full(said):
        return BackendError(f"{host} ran out of space while files were copied: free some, or name another folder there")
    last = (said.strip().splitlines() or ["no message"])[-1][:200]
    return BackendError(f"files could not be unpacked on {host} ({last}): check whether `tar` works there")


def _measure(connection: Connection, command: Sequence[str], show: Progress) -> None:
    """Run the benchmark on the host, and show its progress."""
    lines: deque[str] = deque(maxlen=_LAST_LINES)

    def on_line(line: str) -> None:
        progress = _PROGRESS.fullmatch(line)
        if progress:
            show(progress[1], int(progress[2]), int(progress[3]))
        elif line.strip():
            lines.append(line)

    code = connection.call(command, on_line=on_line).code
    if code:
        raise host_failure(connection.options.host, code, list(lines))


def _arguments(
    bundles: Mapping[str, Bundle],
    rounds: Rounds,
    threads: Sequence[int | None],
    provider: str | None,
    photo: Path | None,
) -> list[str]:
    """Python's arguments for the benchmark; with `=` a name may begin with a dash."""
    named = [f"--name={name}" for name in bundles]
    counts = [f"--threads={count}" for count in threads if count is not None]
    chosen = [*([f"--provider={provider}"] if provider else []), *([f"--photo={_photo_name(photo)}"] if photo else [])]
    often = [f"--repetitions={rounds.repetitions}", f"--warm-up={rounds.warm_up}", f"--budget={rounds.budget}"]
    roots = [f"bundles/{number}" for number in range(len(bundles))]
    return ["-m", "sam_edge_runtime.benchmark", *roots, f"--out={RESULT}", *named, *counts, *chosen, *often]


def _photo_name(photo: Path) -> str:
    return f"photo{photo.suffix.lower()}"


class _Counted:
    """A file that reports how much of all files has been read."""

    def __init__(self, file: IO[bytes], before: int, total: int, show: Progress) -> None:
        self._file, self._done, self._total, self._show = file, before, total, show

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        piece = self._file.read(size)
        before, self._done = self._done, self._done + len(piece)
        if before // MEGABYTE != self._done // MEGABYTE or self._done == self._total:
            self._show("copying, MB", self._done // MEGABYTE, -(-self._total // MEGABYTE))
        return piece
