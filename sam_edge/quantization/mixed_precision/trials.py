"""Candidates made, judged and timed.

Time is measured on the target's own runtime, the candidate and the fp32 artifact by turns, so that a machine that is
busy for a while is so for both; what is kept are medians, as shares of fp32's. Core ML packages run nowhere but on a
Mac, so their time is not measured elsewhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from sam_edge.prediction.reference_cache import ReferenceCache
from sam_edge.quantization.artifacts import Quantization
from sam_edge.quantization.calibration.calls import Question
from sam_edge.verification.compare import compare_photo
from sam_edge_quant import Recipe
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import Agreement
from sam_edge_runtime.backends import Backend, load_backend
from sam_edge_runtime.benchmark.rounds import Rounds
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.system.files import write_file

from .configuration import EIGHT, Measured, Schemes
from .sensitivity import answers_of, shown_iou
from .timing import DECODER, ENCODER, time_graphs

# Changes with what `Evaluator` measures and how artifacts are made. Figures of another version are not used again.
EVALUATOR_VERSION = 3
ROUNDS = Rounds(repetitions=15, warm_up=1, budget=2.5, least=5)
GOLDEN = "golden picture"


class Evaluator:
    """Mask mIoU of a bundle with fp32 torch: the least of three figures.

    Two are of the golden pictures, where all four outputs count: the bundle's own test, and what `sam-edge verify`
    asks, so that what the search accepts holds there as well. On photos it is the mask that is shown: of the
    others some are scraps of a few pixels there, which nobody sees and which change with the least rounding.
    """

    def __init__(
        self, answers: golden.Golden, questions: Sequence[Question], reference: Backend, manifest: Manifest
    ) -> None:
        self.questions = tuple(questions)
        self._answers, self._reference, self._manifest = answers, reference, manifest
        self._wanted = answers_of(reference, questions, manifest.of_any_capacity())

    def __call__(self, backend: Backend) -> float:
        """The figure of one engine."""
        backend = ReferenceCache().wrap(backend, self._manifest)  # the golden pictures are encoded once for both
        figures = [golden.check(self._answers, backend, self._manifest).mask_miou, self._verified(backend)]
        found = answers_of(backend, self.questions, self._manifest)
        return min([*figures, shown_iou(self._wanted, found)] if found else figures)

    def _verified(self, backend: Backend) -> float:
        """What `sam-edge verify` comes to on the golden pictures."""
        compared = [
            compare_photo(GOLDEN, picture, self._reference, backend, self._manifest).agreement
            for picture in self._answers.pictures
        ]
        return Agreement(tuple(compared)).mask_miou


class TrialCache:
    """What was measured so far, in a file beside the bundle, so that an interrupted search goes on where it was."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Read what there is, if it was measured with the same settings."""
        settings = {**settings, "evaluator": EVALUATOR_VERSION}
        self._path, self._settings = path, json.loads(json.dumps(settings))
        self._known: dict[str, dict[str, float | None]] = {}
        try:
            stored = json.loads(path.read_text("utf-8"))
            if stored["settings"] == self._settings:
                self._known = stored["trials"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none yet, or none of ours: it is written anew

    def get(self, schemes: Schemes) -> Measured | None:
        """What a mixture came to earlier."""
        found = self._known.get(_key(schemes))
        return None if found is None else Measured(**found)  # type: ignore[arg-type]

    def add(self, schemes: Schemes, measured: Measured) -> None:
        """Keep a result."""
        self._known[_key(schemes)] = asdict(measured)
        text = json.dumps({"settings": self._settings, "trials": self._known}, indent=1)
        write_file(self._path, f"{text}\n".encode(), overwrite=True)

    def discard(self) -> None:
        """The search is over."""
        self._path.unlink(missing_ok=True)


def _key(schemes: Schemes) -> str:
    return json.dumps(dict(sorted(schemes.items())))


class Bench:
    """Makes candidates from one pair of fp32 artifacts, and measures them."""

    def __init__(
        self,
        quantization: Quantization,
        recipe: Recipe,
        manifest: Manifest,
        source: Path,
        folder: Path,
        judge: Evaluator,
        image: np.ndarray | None,
        ledger: TrialCache,
        progress: Callable[[str], None],
    ) -> None:
        """Nothing is made yet.

        Args:
            quantization: of the fp32 artifacts.
            recipe: what candidates add exceptions to.
            manifest: of the bundle that is to be made.
            source: folder of the fp32 artifacts.
            folder: where candidates may be put.
            judge: of their masks.
            image: `(1, 3, S, S)` to time with; None: time is not measured.
            ledger: of earlier results.
            progress: told of each candidate.
        """
        self._quantization, self._recipe, self._manifest = quantization, recipe, manifest
        self._folder, self._judge, self._ledger, self._progress = folder, judge, ledger, progress
        self._made: dict[tuple[str, str], Path] = {}
        self._image = image
        self._fp32 = None if image is None else load_backend(Bundle(source, manifest))
        self._count = 0

    def recipe(self, schemes: Schemes) -> Recipe:
        """The recipe of a mixture: what is not in eight bits is an exception."""
        relaxed = {block: scheme for block, scheme in schemes.items() if scheme != EIGHT}
        return replace(self._recipe, layers={**self._recipe.layers, **relaxed})

    def measure(self, schemes: Schemes) -> Measured:
        """Make a mixture and measure it, unless that was done before."""
        self._count += 1
        known = self._ledger.get(schemes)
        if known is not None:
            return known
        relaxed = sum(scheme != EIGHT for scheme in schemes.values())
        what = f"{relaxed} of {len(schemes)} blocks in more" if relaxed else "everything in eight bits"
        self._progress(f"mixture {self._count}: {what}")
        folder = self.write(schemes, self._folder / "candidate")
        backend = load_backend(Bundle(folder, self._manifest))
        measured = self._timed(backend, self._judge(backend))
        self._ledger.add(schemes, measured)
        return measured

    def write(self, schemes: Schemes, folder: Path) -> Path:
        """Both graphs of a mixture into a folder; a graph that was made for an earlier one is taken again."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        plan = self._quantization.plan(self.recipe(schemes))
        for file, own in self._by_graph(schemes).items():
            key = (file, _key(own))
            if key not in self._made:
                aside = self._folder / f"graph-{len(self._made)}"
                aside.mkdir()
                self._quantization.write_graph(file, plan, aside / file, lambda stage: None)
                self._made[key] = aside / file
            made = self._made[key]
            (shutil.copytree if made.is_dir() else shutil.copy)(made, folder / file)
        return folder

    def _by_graph(self, schemes: Schemes) -> dict[str, Schemes]:
        encoder = {block: scheme for block, scheme in schemes.items() if block.startswith("image_encoder.")}
        rest = {block: scheme for block, scheme in schemes.items() if block not in encoder}
        return {self._manifest.encoder: encoder, self._manifest.decoder: rest}

    def _timed(self, backend: Backend, mask_miou: float) -> Measured:
        if self._fp32 is None or self._image is None:
            return Measured(mask_miou)
        backends = {"fp32": self._fp32, "candidate": backend}
        taken = time_graphs(backends, self._image, self._manifest, ROUNDS)
        encode, decode, was_encode, was_decode = (
            median(taken[name, graph]) for name in ("candidate", "fp32") for graph in (ENCODER, DECODER)
        )
        return Measured(
            mask_miou, encode / was_encode, decode / was_decode, (encode + decode) / (was_encode + was_decode)
        )
