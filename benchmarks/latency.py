"""Latency of bundles on this machine: encoder, decoder, and the whole click, side by side in one run.

    python benchmarks/latency.py BUNDLE... [--torch] [--photo FILE] [--repetitions 20] [--threads 2] [--out FILE]

Engines take turns within every repetition, so that a machine that drifts drifts for all of them; medians are given
with their quartiles, and ratios are taken within a repetition before their median is. `--torch` adds eager fp32
torch with the first bundle's weights. The steps:

    preprocess   resize and pad the photo                     (the same code for every engine)
    encode       the image encoder
    decode       the mask decoder, one click
    postprocess  the chosen mask to the photo's size          (the same code for every engine)
    click        decode and postprocess as `SamPredictor.predict` runs them, on a photo that is set
    photo        `set_image` and the first click, from pixels to mask
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sam_edge.versions import commit
from sam_edge_runtime import Bundle, SamPredictor, read_photo
from sam_edge_runtime.backends import Backend, BackendOptions, load_backend
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.frame import Frame
from sam_edge_runtime.masks import upscale_binary
from sam_edge_runtime.prompts import build_prompts

STEPS = ("preprocess", "encode", "decode", "postprocess", "click", "photo")
WARM_UP = 2
DEFAULT_SIZE = (1500, 2250)  # (H, W) of a released SA-1B photo
PACKAGES = ("sam-edge", "numpy", "Pillow", "torch", "onnxruntime")


@dataclass(frozen=True)
class Engine:
    """Something to measure: its name, and a backend that answers for a bundle."""

    name: str
    bundle: Bundle
    backend: Backend


def main() -> None:
    """Parse, measure, print, write."""
    arguments = _arguments()
    engines = list(_engines(arguments.bundles, arguments.threads, with_torch=arguments.torch))
    photo = _noise(DEFAULT_SIZE) if arguments.photo is None else read_photo(arguments.photo)
    samples: dict[str, dict[str, list[float]]] = {engine.name: {step: [] for step in STEPS} for engine in engines}
    for repetition in track(range(WARM_UP + arguments.repetitions), "measuring", console=Console(stderr=True)):
        for engine in engines:
            seconds = measure(engine, photo)
            if repetition >= WARM_UP:
                for step in STEPS:
                    samples[engine.name][step].append(seconds[step])
    result = _result(engines, samples, photo, arguments)
    Console().print(_table(result))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(engine: Engine, photo: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Seconds of each step, once."""
    frame = Frame(engine.bundle.manifest.input_side, (photo.shape[0], photo.shape[1]))
    point, label = np.array([[photo.shape[1] / 2, photo.shape[0] / 2]]), np.array([1])
    manifest = engine.bundle.manifest
    (feed,) = build_prompts(frame, point[None], label[None], None, None).feeds(manifest.call_sizes, manifest.points)
    seconds: dict[str, float] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        answer = work()
        seconds[step] = time.perf_counter() - start
        return answer

    image = timed("preprocess", lambda: frame.image(photo))
    embeddings = timed("encode", lambda: engine.backend.encode(image))
    prompt = (feed.point_coords, feed.point_labels, feed.mask_input, feed.has_mask_input)
    masks, _ = timed("decode", lambda: engine.backend.decode(embeddings, *prompt))
    timed("postprocess", lambda: upscale_binary(masks[0, :1], frame))
    predictor = SamPredictor(engine.bundle, backend=engine.backend)
    predictor.set_image(photo)
    timed("click", lambda: predictor.predict(point, label, multimask_output=False))
    fresh = SamPredictor(engine.bundle, backend=engine.backend)
    timed("photo", lambda: (fresh.set_image(photo), fresh.predict(point, label, multimask_output=False)))
    return seconds


def _engines(paths: list[Path], threads: int | None, *, with_torch: bool) -> Iterator[Engine]:
    bundles = [Bundle.open(path) for path in paths]
    for path, bundle in zip(paths, bundles, strict=True):
        yield Engine(str(path), bundle, load_backend(bundle, BackendOptions(threads=threads)))
    if with_torch:
        import torch  # noqa: PLC0415  # only for the comparison

        from sam_edge.load import load_sam  # noqa: PLC0415
        from sam_edge.torch_backend import TorchBackend  # noqa: PLC0415
        from sam_edge.weights.source import recorded_source  # noqa: PLC0415

        if threads is not None:
            torch.set_num_threads(threads)
        manifest = bundles[0].manifest
        source = recorded_source(manifest.checkpoint)
        if source is None:
            raise SystemExit(f"--torch needs the weights of {paths[0]} ({manifest.checkpoint.source}) in the cache")
        loaded = load_sam(manifest.variant, source, manifest.input_side)
        yield Engine(f"torch eager {manifest.variant}", bundles[0], TorchBackend(loaded.sam))


def _result(
    engines: list[Engine],
    samples: dict[str, dict[str, list[float]]],
    photo: npt.NDArray[np.uint8],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    first = samples[engines[0].name]
    return {
        "machine": machine(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": commit(),
        "repetitions": arguments.repetitions,
        "threads": arguments.threads,
        "photo": {"height": photo.shape[0], "width": photo.shape[1]},
        "engines": [
            {
                "name": engine.name,
                "variant": engine.bundle.manifest.variant,
                "input_side": engine.bundle.manifest.input_side,
                "precision": engine.bundle.manifest.precision,
                "weights": engine.bundle.manifest.checkpoint.source,
                "seconds": {step: _spread(samples[engine.name][step]) for step in STEPS},
                "ratio_to_first": {
                    step: _spread(list(np.divide(samples[engine.name][step], first[step]))) for step in STEPS
                },
            }
            for engine in engines
        ],
    }


def _spread(values: list[float]) -> dict[str, float]:
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "q25": float(low), "q75": float(high), "min": float(min(values))}


def _table(result: dict[str, Any]) -> Table:
    machine = result["machine"]
    table = Table(
        title=f"median ms (quartiles), {result['repetitions']} repetitions; {machine['processor']}, "
        f"{machine['cores']} cores",
        title_justify="left",
    )
    table.add_column("step")
    for engine in result["engines"]:
        table.add_column(engine["name"], justify="right")
    for step in STEPS:
        cells = []
        for engine in result["engines"]:
            spread, ratio = engine["seconds"][step], engine["ratio_to_first"][step]["median"]
            low, median, high = (f"{spread[key] * 1e3:.1f}" for key in ("q25", "median", "q75"))
            cells.append(f"{median} ({low}-{high})  {ratio:.2f}x")
        table.add_row(step, *cells)
    return table


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _noise(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("bundles", nargs="+", type=Path, help="folders of bundles; ratios are to the first")
    parser.add_argument("--torch", action="store_true", help="also measure the first bundle's model in eager torch")
    parser.add_argument("--photo", type=Path, help="photo; default: noise of 1500 x 2250 pixels")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--threads", type=int, help="threads within an operator; default: the engine's choice")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
