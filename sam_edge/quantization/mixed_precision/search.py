"""The search for one bundle: blocks, trials, the simulation and their order, put together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from time import monotonic

from sam_edge.quantization.artifacts import ArtifactQuantizer
from sam_edge_quant import Recipe
from sam_edge_runtime.bundle.targets import target_named

from .blocks import blocks_of
from .configuration import W8A8, Schemes, SearchResult, Simulator, Trials, find_configuration
from .goals import Goal
from .labelled import REFERENCE_SHARE
from .sensitivity import Simulation
from .trials import Evaluator, TrialCache, TrialRunner

Find = Callable[[Sequence[str], Trials, Simulator, Goal], SearchResult]
SIMULATED_PHOTOS = 2  # with the prompts that have no mask: the simulation orders blocks, it gives no figure


@dataclass(frozen=True)
class Search:
    """What a search works with.

    Attributes:
        quantizer: makes artifacts by recipes.
        evaluator: measures the masks of a bundle.
        cache: of measurements of an interrupted search.
        masks_lost: share of masks that each block loses, by what it was measured with; it is the same for all targets,
            so a command keeps it between exports.
        progress: called with the name of each stage.
        find: proposes configurations, as `find_configuration` does.
    """

    quantizer: ArtifactQuantizer
    evaluator: Evaluator
    cache: TrialCache
    masks_lost: dict[str, Mapping[str, float]]
    progress: Callable[[str], None]
    find: Find = find_configuration

    def run(self, recipe: Recipe, goal: Goal, budget: float) -> tuple[SearchResult, Recipe]:
        """Look for the fastest mixed-precision configuration that a goal holds for.

        Args:
            recipe: configurations add exceptions to it; layers that it excepts itself keep their scheme.
            goal: what the configuration has to keep.
            budget: seconds after which no further configuration is started.

        Returns:
            The result, and its recipe.
        """
        deadline = monotonic() + budget
        if self.evaluator.human is not None:
            self.progress("measuring fp32 torch on human masks")
        self.evaluator.measure_reference(self.cache, REFERENCE_SHARE * budget)
        blocks = blocks_of(name for name in self.quantizer.names if recipe.scheme_of(name) == W8A8)
        timed = target_named(self.quantizer.manifest.target).runs_here
        runner = TrialRunner(self.quantizer, recipe, self.evaluator, self.cache, deadline, self.progress, timed=timed)
        simulator = _SearchSimulator(self, blocks)
        result = self.find(blocks, runner, simulator, goal)
        return result, runner.recipe(result.schemes)


@dataclass(frozen=True)
class _SearchSimulator:
    """The simulation of one search; it is made when first needed, and `masks_lost` is stored for other targets."""

    search: Search
    blocks: tuple[str, ...]

    def masks_lost(self) -> Mapping[str, float]:
        """See `Simulator`."""
        manifest = self.search.quantizer.manifest
        settings = [manifest.variant, asdict(manifest.checkpoint), list(manifest.frame), manifest.calibration]
        key = json.dumps([*settings, manifest.conventions.hq_token_only, self.blocks])
        stored = self.search.masks_lost
        if key not in stored:
            self.search.progress(f"simulating INT8 in each of {len(self.blocks)} blocks")
            stored[key] = self._simulation.masks_lost(self.blocks)
        return stored[key]

    def operations(self) -> Mapping[str, float]:
        """See `Simulator`."""
        return self._simulation.operations

    def mask_miou(self, schemes: Schemes) -> float:
        """See `Simulator`."""
        return self._simulation.mask_miou(block for block, scheme in schemes.items() if scheme == W8A8)

    @cached_property
    def _simulation(self) -> Simulation:
        photos = [replace(each, prompts=each.prompts[:1]) for each in self.search.evaluator.photos[:SIMULATED_PHOTOS]]
        return Simulation(self.search.quantizer.sam, photos, self.search.quantizer.manifest)
