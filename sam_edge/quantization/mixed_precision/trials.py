"""Trials: configurations made, evaluated and timed.

Time is measured on the target's own runtime, in rounds that interleave the candidate and the fp32 artifact, so that a
busy machine affects both alike. The figures are medians relative to fp32's. Core ML packages run on a Mac only, so
elsewhere their time is not measured.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from sam_edge.model.graphs import in_encoder_graph
from sam_edge.prediction.reference_cache import ReferenceCache
from sam_edge.quantization.artifacts import ArtifactQuantizer
from sam_edge.quantization.calibration.calls import PromptedPhoto
from sam_edge.verification.compare import compare_photo
from sam_edge_quant import Recipe
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import Agreement
from sam_edge_runtime.backends import Backend, load_backend
from sam_edge_runtime.benchmark.rounds import Rounds
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.files import write_file

from .configuration import W8A8, Schemes
from .goals import Measurement
from .labelled import HumanMasks
from .sensitivity import predict_masks, selected_mask_iou
from .timing import DECODER, ENCODER, time_graphs

# Changes with what `Evaluator` measures and how artifacts are made; measurements of another version are discarded.
EVALUATOR_VERSION = 3
ROUNDS = Rounds(repetitions=15, warm_up=1, budget=2.5, least=5)
GOLDEN = "golden picture"


class Evaluator:
    """Mask mIoU of a bundle with fp32 torch: the smallest of three figures.

    Two use the golden pictures and count all four outputs: the bundle's golden test and the comparison of
    `sam-edge verify`, so that a configuration that the search accepts passes there as well. The third uses calibration
    photos and counts only the selected mask: some of the other outputs are a few pixels large there, are never shown,
    and change with the least rounding.

    Attributes:
        photos: calibration photos and their prompts.
        human: measures the loss on human masks; None: there are none.
    """

    def __init__(
        self,
        golden_test: golden.Golden,
        photos: Sequence[PromptedPhoto],
        reference: Backend,
        manifest: Manifest,
        human: HumanMasks | None = None,
    ) -> None:
        self.photos, self.human = tuple(photos), human
        self._golden_test, self._reference, self._manifest = golden_test, reference, manifest
        self._expected = predict_masks(reference, photos, manifest.of_any_capacity())

    def measure_reference(self, cache: TrialCache, seconds: float) -> None:
        """Measure fp32 torch on the human masks, or take the scores of an interrupted search; see `HumanMasks`."""
        if self.human is not None:
            any_capacity = self._manifest.of_any_capacity()
            cache.keep_reference(
                self.human.measure_reference(self._reference, any_capacity, seconds, cache.reference_scores)
            )

    def __call__(self, backend: Backend) -> float:
        """The figure of one engine, 0 to 1."""
        backend = ReferenceCache().wrap(backend, self._manifest)  # encodes the golden pictures once for both tests
        figures = [golden.check(self._golden_test, backend, self._manifest).mask_miou, self._verify(backend)]
        if self.photos:
            predicted = predict_masks(backend, self.photos, self._manifest)
            figures.append(selected_mask_iou(self._expected, predicted))
        return min(figures)

    def _verify(self, backend: Backend) -> float:
        """The figure of `sam-edge verify` on the golden pictures."""
        compared = [
            compare_photo(GOLDEN, picture, self._reference, backend, self._manifest).agreement
            for picture in self._golden_test.pictures
        ]
        return Agreement(tuple(compared)).mask_miou


class TrialCache:
    """Measurements in a file beside the bundle, with which an interrupted search continues.

    Attributes:
        reference_scores: fp32 torch's scores on human masks, by photo; empty where none were measured.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Read the file, if it was written with the same settings."""
        settings = {**settings, "evaluator": EVALUATOR_VERSION}
        self._path, self._settings = path, json.loads(json.dumps(settings))
        self._trials: dict[str, Measurement] = {}
        self.reference_scores: list[list[float]] = []
        try:
            stored = read_json(path)
            if stored["settings"] == self._settings:
                scores = [[float(score) for score in photo] for photo in stored.get("reference_scores", [])]
                self._trials = {key: Measurement.from_json(figures) for key, figures in stored["trials"].items()}
                self.reference_scores = scores
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # no file, or not one of ours: the next measurement replaces it

    def get(self, schemes: Schemes) -> Measurement | None:
        """The stored measurement of a configuration."""
        return self._trials.get(_key(schemes))

    def add(self, schemes: Schemes, measurement: Measurement) -> None:
        """Store a measurement."""
        self._trials[_key(schemes)] = measurement
        self._write()

    def keep_reference(self, scores: list[list[float]]) -> None:
        """Store fp32 torch's scores on human masks, so that a search that resumes compares with the same photos."""
        if scores != self.reference_scores:
            self.reference_scores = scores
            self._write()

    def _write(self) -> None:
        trials = {key: asdict(each) for key, each in self._trials.items()}
        document: dict[str, Any] = {"settings": self._settings, "trials": trials}
        if self.reference_scores:
            document["reference_scores"] = self.reference_scores
        text = json.dumps(document, indent=1)
        write_file(self._path, f"{text}\n".encode(), overwrite=True)

    def discard(self) -> None:
        """Delete the file: the search is over."""
        self._path.unlink(missing_ok=True)


def _key(schemes: Schemes) -> str:
    return json.dumps(dict(sorted(schemes.items())))


class TrialRunner:
    """Makes configurations from one pair of fp32 artifacts, and measures them."""

    def __init__(
        self,
        quantizer: ArtifactQuantizer,
        recipe: Recipe,
        evaluator: Evaluator,
        cache: TrialCache,
        deadline: float,
        progress: Callable[[str], None],
        *,
        timed: bool,
    ) -> None:
        """Nothing is made yet.

        Args:
            quantizer: of the fp32 artifacts; candidates are written to a folder beside them.
            recipe: configurations add exceptions to it.
            evaluator: of candidates' masks.
            cache: of earlier measurements.
            deadline: `time.monotonic` at which no further configuration is started.
            progress: called with each configuration.
            timed: whether to measure time.
        """
        self._quantizer, self._recipe, self._manifest = quantizer, recipe, quantizer.manifest
        self._evaluator, self._cache, self._deadline, self._progress = evaluator, cache, deadline, progress
        self._folder = quantizer.source / "candidates"
        self._folder.mkdir()
        self._graphs: dict[tuple[str, str], Path] = {}  # folder of each graph that was written
        self._fp32 = load_backend(Bundle(quantizer.source, quantizer.manifest)) if timed else None
        self._count = 0

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return monotonic() > self._deadline

    def recipe(self, schemes: Schemes) -> Recipe:
        """The recipe of a configuration: every block that is not in `w8a8` is an exception."""
        relaxed = {block: scheme for block, scheme in schemes.items() if scheme != W8A8}
        return replace(self._recipe, layers={**self._recipe.layers, **relaxed})

    def measure(self, schemes: Schemes) -> Measurement:
        """Make a configuration and measure it, or return its stored measurement."""
        self._count += 1
        stored = self._cache.get(schemes)
        if stored is not None:
            return stored
        relaxed = sum(scheme != W8A8 for scheme in schemes.values())
        what = f"{relaxed} of {len(schemes)} blocks not in w8a8" if relaxed else "all blocks in w8a8"
        self._progress(f"trial {self._count}: {what}")
        folder = self.write(schemes, self._folder / "candidate")
        backend = load_backend(Bundle(folder, self._manifest))
        mask_miou = self._evaluator(backend)
        human = None if self._evaluator.human is None else self._evaluator.human(backend)
        measurement = replace(self._timed(backend, mask_miou), human=human)
        self._cache.add(schemes, measurement)
        return measurement

    def write(self, schemes: Schemes, folder: Path) -> Path:
        """Write both graphs of a configuration to a folder; a graph that an earlier one had is copied."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        plan = self._quantizer.plan(self.recipe(schemes))
        for file, part in self._by_graph(schemes).items():
            key = (file, _key(part))
            if key not in self._graphs:
                written = self._folder / f"graph-{len(self._graphs)}"
                written.mkdir()
                self._quantizer.write_graph(file, plan, written / file, lambda stage: None)
                self._graphs[key] = written
            # All of the graph's files: an ONNX graph above 2 GiB has its weights in a second one.
            shutil.copytree(self._graphs[key], folder, dirs_exist_ok=True)
        return folder

    def _by_graph(self, schemes: Schemes) -> dict[str, Schemes]:
        encoder = {block: scheme for block, scheme in schemes.items() if in_encoder_graph(block)}
        decoder = {block: scheme for block, scheme in schemes.items() if block not in encoder}
        return {self._manifest.encoder: encoder, self._manifest.decoder: decoder}

    def _timed(self, backend: Backend, mask_miou: float) -> Measurement:
        if self._fp32 is None:
            return Measurement(mask_miou)
        backends = {"fp32": self._fp32, "candidate": backend}
        image = self._evaluator.photos[0].image
        seconds = time_graphs(backends, image, self._manifest, ROUNDS)
        encode, decode, fp32_encode, fp32_decode = (
            median(seconds[name, graph]) for name in ("candidate", "fp32") for graph in (ENCODER, DECODER)
        )
        return Measurement(
            mask_miou, encode / fp32_encode, decode / fp32_decode, (encode + decode) / (fp32_encode + fp32_decode)
        )
