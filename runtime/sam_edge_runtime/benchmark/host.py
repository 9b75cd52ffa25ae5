"""Bundles measured side by side on the machine that this runs on.

Every bundle has a fresh process, started one after the other: that gives the cold start and the peak of memory. Then
all of them take turns, and ratios are taken within a round. Processes wait for their turn asleep and hold their memory,
so it has to suffice for all.
"""

from __future__ import annotations

import sys
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
from sam_edge_runtime.errors import UsageError

from .machine import machine
from .process import Worker
from .spread import ratios, spread
from .steps import PARTS_OF_CLICK, STEPS
from .turns import Rounds, Show, take_turns
from .worker import END, Job

FORMAT, FORMAT_VERSION = "sam-edge-benchmark", 1
CPUS = {"onnx": "CPU", "tflite": "CPU (XNNPACK)", "coreml": "chosen by Core ML"}


@dataclass(frozen=True)
class Contestant:
    """A bundle and how its engine runs.

    Attributes:
        name: what tables call it.
        bundle: the bundle.
        options: threads and provider.
    """

    name: str
    bundle: Bundle
    options: BackendOptions


def contestants(
    bundles: Mapping[str, Bundle], threads: Sequence[int | None] = (None,), provider: str | None = None
) -> list[Contestant]:
    """Each bundle, by its name, with each number of threads.

    Raises:
        UsageError: a number of threads or a provider that cannot be meant, or the same number twice.
    """
    if len(set(threads)) < len(threads):
        raise UsageError(f"threads {', '.join(map(str, threads))}: name each number only once")
    several = len(threads) > 1
    return [
        Contestant(
            f"{name}, {count} thread{'s' * (count != 1)}" if several else name, bundle, BackendOptions(count, provider)
        )
        for name, bundle in bundles.items()
        for count in threads
    ]


def measure(
    entries: Sequence[Contestant], photo: npt.NDArray[np.uint8], rounds: Rounds, show: Show | None = None
) -> dict[str, Any]:
    """Measure bundles side by side.

    Args:
        entries: bundles under names of their own; ratios are to the first that can be measured.
        photo: `(H, W, 3)` uint8; the click is in its middle.
        rounds: how often.
        show: told what is being done, and how much of how much.

    Returns:
        A document for JSON: `machine`, `photo`, `rounds`, `warm_up`; for each of `bundles` what it is, seconds of the
        `cold` start, `memory` in bytes, for each of `steps` its `spread` in seconds, `ratio` to the first bundle,
        `per_second`, and all `samples`; `not_measured` names bundles that cannot be measured here, with the reason.

    Raises:
        UsageError: no bundle can be measured here, or two have one name.
        BackendError: an engine is missing or failed, or a process was killed.
    """
    names = [each.name for each in entries]
    if len(set(names)) < len(names):
        raise UsageError(
            f"bundles are told apart by name, and two are '{max(names, key=names.count)}': name one only once"
        )
    reasons = {each.name: reason for each in entries if (reason := why_not(each.bundle))}
    running = [each for each in entries if each.name not in reasons]
    if not running:
        raise UsageError(next(iter(reasons.values()), "no bundle is named: give at least one"))
    show = show or (lambda what, done, total: None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sam-edge-")))
        np.save(folder / "photo.npy", photo)
        workers, records = [], []
        for number, each in enumerate(running):
            show(f"starting {each.name}", number, len(running))
            started = time.time()
            worker = stack.enter_context(Worker(each.name))
            options = each.options
            job = Job(str(each.bundle.root), str(folder / "photo.npy"), started, options.threads, options.provider)
            records.append(worker.ask(job.to_json()))
            workers.append(worker)
        samples = take_turns(workers, rounds, show)
        for worker, record in zip(workers, records, strict=True):
            record.update(worker.ask(END))
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "machine": machine(),
        "photo": {"height": photo.shape[0], "width": photo.shape[1]},
        "rounds": len(samples[0]),
        "warm_up": rounds.warm_up,
        "bundles": [
            _row(each, record, taken, samples[0]) for each, record, taken in zip(running, records, samples, strict=True)
        ],
        "not_measured": reasons,
    }


def why_not(bundle: Bundle) -> str | None:
    """Why a bundle cannot be measured on this machine; None where it can."""
    if bundle.manifest.target == "coreml" and sys.platform != "darwin":
        return (
            "Core ML runs on Apple's systems only; the evaluator that stands in for it elsewhere says nothing of time"
        )
    return None


def _row(
    each: Contestant, record: dict[str, Any], taken: list[dict[str, float]], first: list[dict[str, float]]
) -> dict[str, Any]:
    manifest, options = each.bundle.manifest, each.options
    samples = {step: [seconds[step] for seconds in taken] for step in STEPS}
    others = {step: [seconds[step] for seconds in first] for step in STEPS}
    parts = [sum(seconds[step] for step in PARTS_OF_CLICK) for seconds in taken]
    return {
        "name": each.name,
        "variant": manifest.variant,
        "target": manifest.target,
        "precision": manifest.precision,
        "input_side": manifest.input_side,
        "weights": manifest.checkpoint.described,
        "bytes": manifest.size,
        "mask_miou": _mask_miou(each.bundle),
        "runtime": record["runtime"],
        "runtime_version": record["runtime_version"],
        "threads": options.threads,
        "delegate": options.provider or CPUS[manifest.target],
        "cold": {**record["cold"], "to the first mask": sum(record["cold"].values())},
        "memory": {name: record[f"{name}_bytes"] for name in ("idle", "loaded", "peak")},
        "steps": {step: spread(samples[step]) for step in STEPS},
        "ratio": {step: ratios(samples[step], others[step]) for step in STEPS},
        "predictor_overhead": ratios(samples["click"], parts),
        "per_second": {
            "photos": len(taken) / sum(samples["encode"]),
            "clicks": len(taken) / sum(samples["click"]),
        },
        "samples": samples,
    }


def _mask_miou(bundle: Bundle) -> float | None:
    """What verification measured when the bundle was made."""
    figures = bundle.report().get("figures")
    found = figures.get("mask_miou") if isinstance(figures, dict) else None
    return float(found) if isinstance(found, (int, float)) else None
