"""The search for one bundle: blocks, candidates and their order of trial, put together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from time import monotonic

from sam_edge.model import Sam
from sam_edge.quantization.artifacts import Quantization
from sam_edge_quant import Recipe
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.targets import target_named

from .blocks import blocks_of
from .configuration import EIGHT, Found, find_mixture
from .sensitivity import Simulation
from .trials import Bench, Evaluator, TrialCache

SIMULATED_WITH = 2  # photos, with those prompts that have no mask: an order of blocks is wanted, no figure


@dataclass(frozen=True)
class Search:
    """What a search works with.

    Attributes:
        quantization: of the fp32 artifacts.
        sam: the model that they were made from.
        manifest: of the bundle that is to be made.
        judge: of a candidate's masks.
        folder: of the fp32 artifacts; candidates are put into one within it.
        ledger: of earlier results.
        costs: what blocks cost, by what that was measured with; the same for all targets, so it is kept between them.
        progress: told of each step.
    """

    quantization: Quantization
    sam: Sam
    manifest: Manifest
    judge: Evaluator
    folder: Path
    ledger: TrialCache
    costs: dict[str, Mapping[str, float]]
    progress: Callable[[str], None]

    def run(self, recipe: Recipe, bound: float, budget: float) -> tuple[Found, Recipe]:
        """Look for the fastest mixture within a bound; returns what was found, and its recipe.

        Args:
            recipe: what mixtures add exceptions to; layers that it excepts itself stay as it has them.
            bound: smallest mask mIoU.
            budget: seconds after which nothing new is begun.
        """
        candidates = self.folder / "candidates"
        candidates.mkdir()
        timed = target_named(self.manifest.target).runs_here  # elsewhere Core ML is evaluated, not run
        image = self.judge.questions[0].image if timed else None
        bench = Bench(
            self.quantization,
            recipe,
            self.manifest,
            self.folder,
            candidates,
            self.judge,
            image,
            self.ledger,
            self.progress,
        )
        blocks = blocks_of(name for name in self.quantization.names if recipe.scheme_of(name) == EIGHT)
        deadline = monotonic() + budget
        found = find_mixture(
            blocks,
            bench.measure,
            lambda: self._costs(blocks),
            lambda: self._simulation.work,
            lambda schemes: self._simulation.mask_miou(block for block, scheme in schemes.items() if scheme == EIGHT),
            bound,
            lambda: monotonic() > deadline,
        )
        return found, bench.recipe(found.schemes)

    @cached_property
    def _simulation(self) -> Simulation:
        asked = [replace(each, prompts=each.prompts[:1]) for each in self.judge.questions[:SIMULATED_WITH]]
        return Simulation(self.sam, asked, self.manifest)

    def _costs(self, blocks: tuple[str, ...]) -> Mapping[str, float]:
        manifest = self.manifest
        key = json.dumps(
            [manifest.variant, asdict(manifest.checkpoint), manifest.input_side, manifest.calibration, blocks]
        )
        if key not in self.costs:
            self.progress(f"what each of {len(blocks)} blocks costs in masks")
            self.costs[key] = self._simulation.masks_lost(blocks)
        return self.costs[key]
