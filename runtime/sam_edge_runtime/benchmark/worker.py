"""One bundle in a process of its own, measured whenever the parent says so.

A fresh process a bundle, because start-up and peak memory are a process's; all of them alive at once, because the
parent gives them turns. Lines of JSON: a `Job` comes in, what the cold start took goes out, each further
line `again` is answered with the seconds of every step, and `end` with the peak of memory.
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
from sam_edge_runtime.errors import SamEdgeError
from sam_edge_runtime.system.memory import peak_bytes

from .clock import timed
from .steps import Steps

AGAIN, END = "again", "end"


@dataclass(frozen=True)
class Job:
    """What a worker measures.

    Attributes:
        bundle: the bundle's folder.
        photo: `.npy` file of `(H, W, 3)` uint8.
        started: when the process was, in seconds since the epoch.
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
    """Measure one bundle for one parent."""
    serve(lambda job: _begin(Job(**job)))


def serve(begin: Callable[[dict[str, Any]], tuple[Callable[[], dict[str, float]], dict[str, Any]]]) -> None:
    """Answer one parent, until it says `end` or is gone.

    Args:
        begin: makes ready for the job that is in the first line; returns what measures once, and the first answer.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what engines print must not get between the answers

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        measure, first = begin(json.loads(sys.stdin.readline()))
        say(first)
        for line in sys.stdin:
            if line.strip() == END:
                break
            say({"seconds": measure()})
        say({"peak_bytes": peak_bytes()})
    except SamEdgeError as error:
        say({"error": str(error)})


def _begin(job: Job) -> tuple[Callable[[], dict[str, float]], dict[str, Any]]:
    """Everything up to the first mask, timed."""
    imported = time.time()
    photo = np.load(job.photo)
    idle = peak_bytes()
    opening, bundle = timed(lambda: Bundle.open(Path(job.bundle)), settle=0)
    loading, backend = timed(lambda: _loaded(bundle, BackendOptions(job.threads, job.provider)), settle=0)
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


def _loaded(bundle: Bundle, options: BackendOptions) -> Backend:
    backend = load_backend(bundle, options)
    backend.load()
    return backend


def _version(target: str) -> str | None:
    """The engine's version; LiteRT's stands in its name."""
    module = sys.modules.get({"onnx": "onnxruntime", "coreml": "coremltools"}.get(target, ""))
    return getattr(module, "__version__", None)


if __name__ == "__main__":
    main()
