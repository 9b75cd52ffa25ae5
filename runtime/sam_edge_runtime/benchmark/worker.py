"""A process that measures one bundle whenever its parent requests it.

Each bundle has a fresh process because start-up time and peak memory belong to a process. All processes stay alive
together because the parent interleaves them. Parent and worker exchange lines. The first one to the worker is a `Job`
in JSON; the reply holds the times of the cold start. The reply to each `measure` holds the seconds of every step, and
the reply to `end` the peak memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime.backends import Backend, BackendOptions, load_backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import SamEdgeError
from sam_edge_runtime.photo.frame import fitting_frame
from sam_edge_runtime.system.memory import peak_bytes

from .clock import timed
from .steps import Steps

MEASURE, END = "measure", "end"


@dataclass(frozen=True)
class Job:
    """What a worker measures.

    Attributes:
        bundle: the bundle's folder.
        photo: `.npy` file of `(H, W, 3)` uint8.
        started: when the process was started, in seconds since the epoch.
        threads, provider: as in `BackendOptions`.
    """

    bundle: str
    photo: str
    started: float
    threads: int | None = None
    provider: str | None = None

    def to_json(self) -> str:
        """The job as one line."""
        return json.dumps(asdict(self))


def main() -> None:
    """Serve one parent with one bundle."""
    serve(lambda job: _prepare(Job(**job)))


def serve(prepare: Callable[[dict[str, Any]], tuple[Callable[[], dict[str, float]], dict[str, Any]]]) -> None:
    """Reply to one parent until it sends `end` or closes the pipe.

    Args:
        prepare: takes the job of the first line; returns a function that measures once, and the first reply.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # engines that print must not write between the replies

    def send(reply: dict[str, Any]) -> None:
        print(json.dumps(reply), file=replies, flush=True)

    try:
        measure, first = prepare(json.loads(sys.stdin.readline()))
        send(first)
        for line in sys.stdin:
            if line.strip() == END:
                break
            send({"seconds": measure()})
        send({"peak_bytes": peak_bytes()})
    except SamEdgeError as error:
        send({"error": str(error)})


def _prepare(job: Job) -> tuple[Callable[[], dict[str, float]], dict[str, Any]]:
    """Time the cold start, up to the first mask."""
    imported = time.time()
    photo = np.load(job.photo)
    idle = peak_bytes()
    opening, bundle = timed(lambda: Bundle.open(Path(job.bundle)), rest=0)
    frame = fitting_frame(bundle.manifest, photo.shape[:2]).size
    loading, backend = timed(lambda: _loaded(bundle, BackendOptions(job.threads, job.provider), frame), rest=0)
    loaded = peak_bytes()
    steps = Steps(bundle, backend, photo)
    first_photo, first_click = steps.first()
    return steps.measure, {
        "cold": {
            "start": imported - job.started,
            "open": opening,
            "load": loading,
            "first photo": first_photo,
            "first click": first_click,
        },
        "runtime": backend.engine,
        "runtime_version": _version(bundle.manifest.target),
        "idle_bytes": idle,
        "loaded_bytes": loaded,
    }


def _loaded(bundle: Bundle, options: BackendOptions, frame: FrameSize) -> Backend:
    backend = load_backend(bundle, options)
    backend.load(frame)
    return backend


def _version(target: str) -> str | None:
    """The engine's version; None for TFLite, whose engine's name contains it."""
    modules = (sys.modules.get(engine.module) for engine in target_named(target).engines)
    return next((str(module.__version__) for module in modules if module and hasattr(module, "__version__")), None)


if __name__ == "__main__":
    main()
