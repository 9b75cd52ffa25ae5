"""Times of bundles' graphs in interleaved rounds, so that a busy machine affects every bundle alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.benchmark.clock import timed
from sam_edge_runtime.benchmark.rounds import Rounds, interleave
from sam_edge_runtime.benchmark.steps import click_tensors
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.photo.frame import Frame

ENCODER, DECODER = "encoder", "decoder"


def time_graphs(
    backends: Mapping[str, Backend], image: Float32, manifest: Manifest, rounds: Rounds
) -> dict[tuple[str, str], list[float]]:
    """Seconds of each run that counts, by backend and graph: encode a photo, then decode one click.

    No run is preceded by a rest: after one, LiteRT's threads take up to 10 ms to wake, or nothing, by chance.

    Args:
        backends: of one model and capacity, by name.
        image: `(1, 3, S, S)`.
        manifest: of one of their bundles.
        rounds: how often.
    """
    frame = Frame(manifest.frame, manifest.frame, manifest.conventions)
    click = click_tensors(frame, manifest.call_sizes, manifest.points)

    def once(backend: Backend) -> tuple[float, float]:
        encoding, features = timed(partial(backend.encode, image), rest=0.0)
        decoding, _ = timed(partial(backend.decode, features, *click), rest=0.0)
        return encoding, decoding

    measurements: list[Callable[[], tuple[float, float]]] = [partial(once, backend) for backend in backends.values()]
    return {
        (name, graph): [pair[place] for pair in samples]
        for name, samples in zip(backends, interleave(measurements, rounds), strict=True)
        for place, graph in enumerate((ENCODER, DECODER))
    }
