"""Runs cases in a process of its own: `python -m tests.fuzz.worker PROGRESS_FILE FIRST COUNT SURFACE [SURFACE ...]`.

A case that ends in anything but a result or a `SamEdgeError` is a finding. So is one that takes longer than
`SECONDS` or more memory than `BYTES` above what the imports hold. Findings are printed as JSON lines. The number of the
case at hand and its surface stand in the progress file, so that a crash of the process can be told by its case.

Each surface has a scratch folder and works two levels below it, since arguments are paths, too: what a case writes to a
relative path, `../../etc/passwd` included, is removed with the scratch folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from sam_edge_runtime.errors import LONGEST_MESSAGE, SamEdgeError
from tests.fuzz.surfaces import SURFACES

SECONDS, BYTES = 10, 2 << 30
LONGEST_LINE = LONGEST_MESSAGE + 3  # characters of an error's one line, with the dots of a shortened one


class Hang(BaseException):
    """The case took too long."""


def _alarm(signum: int, frame: object) -> None:
    raise Hang


def _complaint(error: SamEdgeError) -> str | None:
    """What is wrong with an error's line: more than one, endless, or with codes that a terminal obeys."""
    line = str(error)
    if "\n" in line or "\r" in line:
        return "message has several lines"
    if len(line) > LONGEST_LINE:
        return f"message has {len(line)} characters"
    if not line.isprintable():
        return "message holds unprintable characters"
    return None


def run(surface: str, first: int, count: int, progress: Path) -> None:
    """Run the cases `first` to `first + count - 1` of a surface."""
    marker = os.open(progress, os.O_CREAT | os.O_WRONLY)
    os.pwrite(marker, f"{first:12d} {surface:40s}".encode(), 0)
    with tempfile.TemporaryDirectory(prefix="sam-edge-fuzz-") as folder:
        attempt = SURFACES[surface](Path(folder))
        origin, here = Path.cwd(), Path(folder) / "working" / "here"
        here.mkdir(parents=True)
        os.chdir(here)
        for warm_up in range(2):  # what engines and libraries load lazily is no memory of a case
            with contextlib.suppress(Exception):
                attempt(np.random.default_rng([warm_up, 0]))
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + BYTES, resource.RLIM_INFINITY))
        for case in range(first, first + count):
            os.pwrite(marker, f"{case:12d}".encode(), 0)
            found = _found(partial(attempt, np.random.default_rng([case, 1])))
            if found is not None:
                print(json.dumps({"surface": surface, "case": case, **found}), flush=True)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.chdir(origin)
    os.close(marker)


def _found(call: Callable[[], object]) -> dict[str, str] | None:
    signal.alarm(SECONDS)
    try:
        call()
    except SamEdgeError as error:
        complaint = _complaint(error)
        return complaint and {"kind": complaint, "where": type(error).__name__, "text": repr(str(error))[:300]}
    except Hang:
        return {"kind": "hang", "where": "", "text": f"more than {SECONDS} s"}
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/tests/" not in frame.filename and "sam_edge" in frame.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
        return {"kind": type(error).__name__, "where": where, "text": str(error)[:200]}
    finally:
        signal.alarm(0)
    return None


def main(progress: str, first: str, count: str, *surfaces: str) -> None:
    """Run the cases of several surfaces, one after another."""
    signal.signal(signal.SIGALRM, _alarm)
    warnings.simplefilter("ignore")
    for surface in surfaces:
        run(surface, int(first), int(count), Path(progress))


if __name__ == "__main__":
    main(*sys.argv[1:])
