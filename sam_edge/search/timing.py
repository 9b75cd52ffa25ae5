"""How long bundles take, by turns: a machine that is busy for a while is so for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter, sleep
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.backends import Backend
from sam_edge_runtime.contract import MASK_STRIDE, Label
from sam_edge_runtime.manifest import Manifest

Float32 = npt.NDArray[np.float32]
Answer = TypeVar("Answer")
ENCODER, DECODER = "encoder", "decoder"
SETTLE = 0.02  # seconds before each: an engine's threads look for more work for a while before they sleep


def by_turns(
    backends: Mapping[str, Backend], image: Float32, manifest: Manifest, rounds: tuple[int, int], seconds: float
) -> dict[tuple[str, str], list[float]]:
    """Seconds of each run after the first, by backend and graph: a photo encoded, and a click answered on it.

    Args:
        backends: of one model and capacity, by name.
        image: `(1, 3, S, S)`.
        manifest: of one of their bundles.
        rounds: at least and at most.
        seconds: after which no round is begun that is not needed.
    """
    taken: dict[tuple[str, str], list[float]] = {(name, graph): [] for name in backends for graph in (ENCODER, DECODER)}
    click = _click(manifest)
    least, most = rounds
    begun = perf_counter()
    for turn in range(most + 1):
        if turn > least and perf_counter() - begun > seconds:
            break
        for name, backend in backends.items():
            encoding, embeddings = _timed(partial(backend.encode, image))
            decoding, _ = _timed(partial(backend.decode, embeddings, *click))
            if turn:  # the first runs take longer
                taken[name, ENCODER].append(encoding)
                taken[name, DECODER].append(decoding)
    return taken


def _timed(run: Callable[[], Answer]) -> tuple[float, Answer]:
    """Seconds that `run` takes, and what it returns."""
    sleep(SETTLE)
    begun = perf_counter()
    answer = run()
    return perf_counter() - begun, answer


def _click(manifest: Manifest) -> tuple[Float32, Float32, Float32, Float32]:
    """What a decoder is asked beside the embedding, in the smallest number of prompts and slots that it has."""
    prompts = manifest.call_sizes[0] if manifest.call_sizes else 1
    slots, cells = manifest.points or 2, manifest.input_side // MASK_STRIDE
    labels = np.full((prompts, slots), float(Label.EMPTY), np.float32)
    labels[:, :2] = float(Label.FOREGROUND), float(Label.PADDING)
    return (
        np.full((prompts, slots, 2), manifest.input_side / 2, np.float32),
        labels,
        np.zeros((prompts, 1, cells, cells), np.float32),
        np.zeros(prompts, np.float32),
    )
