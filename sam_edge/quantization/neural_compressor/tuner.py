"""neural-compressor's `autotune` as the driver of a search.

`autotune` goes through a set of configurations, quantizes by each, evaluates the result, and stops at the first whose
loss is tolerable. Here the configurations are its own `INT8StaticQuantConfig`, with exceptions for blocks
(`set_local`). They are not carried out by its simulation in PyTorch: through its registry of algorithms each one goes
to our trials, which make the target's own artifact and measure it. So figures and recipes are those of our own search,
and all targets take the result.

The set has two parts, the faster configurations first:

1. All blocks in INT8; then the mask decoder with INT8 weights only.
2. The blocks that lose most masks get activations in float, one, two, three and then ever more of them at a time, and
   if all are not enough, stay in fp32 in the same steps. The order is that of our simulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from sam_edge.model.graphs import in_encoder_graph
from sam_edge.quantization.mixed_precision.configuration import (
    FP32,
    W8,
    W8A8,
    OutOfTimeError,
    Schemes,
    SearchResult,
    SearchState,
    Simulator,
    Trials,
)
from sam_edge.quantization.mixed_precision.goals import Goal

from .package import package_version, silenced

with silenced():
    from neural_compressor.common.base_config import register_config
    from neural_compressor.torch.quantization import INT8StaticQuantConfig, TuningConfig, autotune
    from neural_compressor.torch.utils.utility import register_algo

ALGORITHM = "sam_edge_artifact"
ROUNDING = 1e-9  # more than float arithmetic adds to the comparison that ends `autotune`
GROWTH = 1.5  # of the number of blocks in float, from one configuration to the next
# dtypes of weights and activations in neural-compressor's words
DTYPES = {W8A8: ("int8", "uint8"), W8: ("int8", "fp32"), FP32: ("fp32", "fp32")}
_SCHEMES = {dtypes: scheme for scheme, dtypes in DTYPES.items()}


@register_config(framework_name="torch", algo_name=ALGORITHM)
class ArtifactConfig(INT8StaticQuantConfig):  # type: ignore[misc]  # no types
    """Static INT8 quantization by a target's own quantizer; `set_local` names blocks."""

    name = ALGORITHM


class Proposal(nn.Module):
    """The model that `autotune` tunes: it only carries the configuration, because artifacts are made elsewhere.

    Attributes:
        config: the configuration; None for fp32.
    """

    config: Any = None


@register_algo(name=ALGORITHM)  # type: ignore[untyped-decorator]  # no types
def propose(model: Proposal, configs_mapping: dict[str, Any], *_: Any, **__: Any) -> Proposal:
    """The algorithm that `autotune` calls for an `ArtifactConfig`."""
    model.config = configs_mapping[ALGORITHM]
    return model


def config_of(schemes: Schemes) -> Any:
    """neural-compressor's configuration that gives each block its scheme."""
    config = ArtifactConfig()
    for block, scheme in schemes.items():
        if scheme != W8A8:
            weight, activation = DTYPES[scheme]
            config.set_local(block, ArtifactConfig(w_dtype=weight, act_dtype=activation))
    return config


def schemes_of(config: Any, blocks: Sequence[str]) -> Schemes:
    """The scheme of each block by neural-compressor's configuration."""
    local = config.local_config
    chosen = {block: local.get(block, config) for block in blocks}
    return {block: _SCHEMES[each.w_dtype, each.act_dtype] for block, each in chosen.items()}


def find_configuration(blocks: Sequence[str], trials: Trials, simulator: Simulator, goal: Goal) -> SearchResult:
    """Search as `mixed_precision.configuration.find_configuration` does, with `autotune` as the driver.

    Args:
        blocks: names of the blocks that get a scheme.
        trials: measures configurations.
        simulator: orders the blocks.
        goal: what the configuration has to keep.
    """
    state = SearchState(tuple(blocks), trials, simulator, goal)
    try:
        if not _tune(state, _coarse(blocks)):
            if trials.out_of_time():  # the simulation takes minutes, and nothing could be measured after it
                raise OutOfTimeError
            state.masks_lost = simulator.masks_lost()
            _tune(state, _relaxed(blocks, sorted(blocks, key=lambda block: -state.masks_lost.get(block, 0.0))))
        complete = True
    except OutOfTimeError:
        complete = False
    result = state.result(complete=complete)
    result.evidence["tuner"] = f"neural-compressor {package_version()}"
    return result


def _tune(state: SearchState, proposals: Iterator[Schemes]) -> bool:
    """Run `autotune` on a set of configurations; returns whether it found one that the goal holds for."""

    def evaluate(model: Proposal) -> float:
        """One minus what is lost: fp32 loses nothing, so its value is 1 and the tolerable loss is the goal's."""
        if model.config is None:
            return 1.0
        measurement = state.measure(schemes_of(model.config, state.blocks))
        value = 1.0 - state.goal.lost(measurement)
        if state.goal.holds(measurement):
            return value
        return min(value, 1.0 - state.goal.allowed - ROUNDING)

    configs = [config_of(schemes) for schemes in proposals]
    tuning = TuningConfig(config_set=configs, tolerable_loss=state.goal.allowed, max_trials=len(configs))
    with silenced():
        autotune(model=Proposal(), tune_config=tuning, eval_fn=evaluate)
    return any(state.goal.holds(measurement) for _, measurement in state.tried)


def _coarse(blocks: Sequence[str]) -> Iterator[Schemes]:
    """Part 1 of the set."""
    everything = dict.fromkeys(blocks, W8A8)
    decoder = [block for block in blocks if not in_encoder_graph(block)]
    yield everything
    if decoder and len(decoder) < len(blocks):
        yield {**everything, **dict.fromkeys(decoder, W8)}


def _relaxed(blocks: Sequence[str], worst_first: Sequence[str]) -> Iterator[Schemes]:
    """Part 2 of the set."""
    for scheme, base in ((W8, W8A8), (FP32, W8)):
        most = len(blocks) if scheme == W8 else len(blocks) - 1  # fp32 everywhere is no mixed-precision configuration
        count = 1
        while count <= most:
            yield {**dict.fromkeys(blocks, base), **dict.fromkeys(worst_first[:count], scheme)}
            count = most if count < most < GROWTH * count else max(count + 1, round(GROWTH * count))
