"""Measures bundles side by side on this machine.

Each bundle gets a fresh process, started one after the other, for its cold start and peak memory. Then the
measurements of all processes are interleaved, and ratios are formed within a round. Idle processes sleep but keep their
memory, so the machine must hold all of them at once.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.backends import BackendOptions
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.frame import fitting_frame

from .machine import machine
from .process import Worker
from .rounds import Progress, Rounds, interleave
from .spread import ratios, spread
from .steps import PARTS_OF_CLICK, STEPS
from .worker import END, Job

FORMAT, FORMAT_VERSION = "sam-edge-benchmark", 1


@dataclass(frozen=True)
class Contestant:
    """A bundle and how its engine runs.

    Attributes:
        name: its name in tables.
        bundle: the bundle.
        options: threads and provider.
    """

    name: str
    bundle: Bundle
    options: BackendOptions


def contestants(
    bundles: Mapping[str, Bundle], threads: Sequence[int | None] = (None,), provider: str | None = None
) -> list[Contestant]:
    """Every bundle with every number of threads.

    Args:
        bundles: by name.
        threads: of the engine; None leaves the number to it.
        provider: of the engine, as in `BackendOptions`.

    Raises:
        UsageError: `BackendOptions` refuses the threads or the provider, or a number of threads is given twice.
    """
    if len(set(threads)) < len(threads):
        raise UsageError(f"threads {', '.join(map(str, threads))}: give each number once")
    several = len(threads) > 1
    return [
        Contestant(
            f"{name}, {count} thread{'s' * (count != 1)}" if several else name, bundle, BackendOptions(count, provider)
        )
        for name, bundle in bundles.items()
        for count in threads
    ]


def measure(
    entries: Sequence[Contestant], photo: npt.NDArray[np.uint8], rounds: Rounds, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure bundles side by side.

    Args:
        entries: bundles with unique names; ratios are to the first that can be measured.
        photo: `(H, W, 3)` uint8; the click is in its middle.
        rounds: how often.
        progress: called with what is being done, how many are done, and how many there are.

    Returns:
        A document for JSON. It holds `machine`, `photo`, `rounds` and `warm_up`; for each of `bundles` its description,
        seconds of the `cold` start, `memory` in bytes, the spread in seconds of each of `steps`, `ratio` to the first
        bundle, `per_second`, and all `samples`; and `not_measured`: bundles that cannot be measured here, and why.

    Raises:
        UsageError: no bundle can be measured here, or two share a name.
        BackendError: an engine is missing or failed, or a process was killed.
    """
    names = [each.name for each in entries]
    if len(set(names)) < len(names):
        raise UsageError(f"two bundles are called '{max(names, key=names.count)}': give each its own name")
    reasons = {each.name: reason for each in entries if (reason := _reason_not_measured(each.bundle))}
    running = [each for each in entries if each.name not in reasons]
    if not running:
        raise UsageError(next(iter(reasons.values()), "no bundle is given: give at least one"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sam-edge-")))
        np.save(folder / "photo.npy", photo)
        workers, records = [], []
        for number, each in enumerate(running):
            if progress is not None:
                progress(f"starting {each.name}", number, len(running))
            started = time.time()
            worker = stack.enter_context(Worker(each.name))
            options = each.options
            job = Job(str(each.bundle.root), str(folder / "photo.npy"), started, options.threads, options.provider)
            records.append(worker.request(job.to_json()))
            workers.append(worker)
        samples = interleave([worker.measure for worker in workers], rounds, progress)
        for worker, record in zip(workers, records, strict=True):
            record.update(worker.request(END))
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "machine": machine(),
        "photo": {"height": photo.shape[0], "width": photo.shape[1]},
        "rounds": len(samples[0]),
        "warm_up": rounds.warm_up,
        "bundles": [
            _row(each, record, rows, samples[0], photo.shape[:2])
            for each, record, rows in zip(running, records, samples, strict=True)
        ],
        "not_measured": reasons,
    }


def _reason_not_measured(bundle: Bundle) -> str | None:
    """Why a bundle cannot be measured on this machine; None if it can."""
    if not target_named(bundle.manifest.target).runs_here:
        return "Core ML runs on Apple's systems only; the evaluator used elsewhere does not reproduce its speed"
    return None


def _row(
    each: Contestant,
    record: dict[str, Any],
    rows: list[dict[str, float]],
    first: list[dict[str, float]],
    photo_size: tuple[int, ...],
) -> dict[str, Any]:
    manifest, options = each.bundle.manifest, each.options
    height, width = photo_size[:2]
    samples = {step: [seconds[step] for seconds in rows] for step in STEPS}
    references = {step: [seconds[step] for seconds in first] for step in STEPS}
    parts = [sum(seconds[step] for step in PARTS_OF_CLICK) for seconds in rows]
    return {
        "name": each.name,
        "variant": manifest.variant,
        "target": manifest.target,
        "precision": manifest.precision,
        "input_side": manifest.input_side,
        "frame": fitting_frame(manifest, (height, width)).size.name,
        "weights": manifest.checkpoint.described,
        "bytes": manifest.size,
        "mask_miou": _mask_miou(each.bundle),
        "runtime": record["runtime"],
        "runtime_version": record["runtime_version"],
        "threads": options.threads,
        "delegate": options.provider or target_named(manifest.target).cpu,
        "cold": {**record["cold"], "to the first mask": sum(record["cold"].values())},
        "memory": {name: record[f"{name}_bytes"] for name in ("idle", "loaded", "peak")},
        "steps": {step: spread(samples[step]) for step in STEPS},
        "ratio": {step: ratios(samples[step], references[step]) for step in STEPS},
        "predictor_overhead": ratios(samples["click"], parts),
        "per_second": {
            "photos": len(rows) / sum(samples["encode"]),
            "clicks": len(rows) / sum(samples["click"]),
        },
        "samples": samples,
    }


def _mask_miou(bundle: Bundle) -> float | None:
    """The mask mIoU that verification measured when the bundle was made."""
    figures = bundle.report().get("figures")
    miou = figures.get("mask_miou") if isinstance(figures, dict) else None
    return float(miou) if isinstance(miou, (int, float)) else None
