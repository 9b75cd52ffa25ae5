"""How long bundles take, by turns: a machine that is busy for a while is so for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from time import perf_counter

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.benchmark.clock import timed
from sam_edge_runtime.benchmark.steps import click_tensors
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.photo.frame import Frame

ENCODER, DECODER = "encoder", "decoder"


def by_turns(
    backends: Mapping[str, Backend], image: Float32, manifest: Manifest, rounds: tuple[int, int], seconds: float
) -> dict[tuple[str, str], list[float]]:
    """Seconds of each run after the first, by backend and graph: a photo encoded, and a click answered on it.

    Nothing rests in between: coming back from a rest takes LiteRT's threads up to 10 ms or nothing, by chance.

    Args:
        backends: of one model and capacity, by name.
        image: `(1, 3, S, S)`.
        manifest: of one of their bundles.
        rounds: at least and at most.
        seconds: after which no round is begun that is not needed.
    """
    taken: dict[tuple[str, str], list[float]] = {(name, graph): [] for name in backends for graph in (ENCODER, DECODER)}
    frame = Frame(manifest.input_side, (manifest.input_side, manifest.input_side))
    click = click_tensors(frame, manifest.call_sizes, manifest.points)
    least, most = rounds
    begun = perf_counter()
    for turn in range(most + 1):
        if turn > least and perf_counter() - begun > seconds:
            break
        for name, backend in backends.items():
            encoding, embeddings = timed(partial(backend.encode, image), settle=0.0)
            decoding, _ = timed(partial(backend.decode, embeddings, *click), settle=0.0)
            if turn:  # the first runs take longer
                taken[name, ENCODER].append(encoding)
                taken[name, DECODER].append(decoding)
    return taken
