"""What every run needs to be resumed: a state to save, the same state restored, and the same recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sam_edge_runtime.errors import CheckpointError, UsageError
from sam_edge_runtime.system.documents import read_json

from .checkpoint import Tensors, TrainingState
from .optimization import optimizer_tensors, restore_optimizer


def state_after(
    step: int, recipe: dict[str, Any], trained: nn.Module, average: AveragedModel, optimizer: torch.optim.Optimizer
) -> TrainingState:
    """The state of a run after `step` steps."""
    return TrainingState(step, recipe, trained.state_dict(), average.module.state_dict(), optimizer_tensors(optimizer))


def restore(state: TrainingState, trained: nn.Module, average: AveragedModel, optimizer: torch.optim.Optimizer) -> int:
    """Restore the state of a run; returns its number of steps.

    Raises:
        CheckpointError: the state is another module's.
    """
    _load(trained, state.model)
    _load(average.module, state.average)
    average.n_averaged.fill_(state.step)
    restore_optimizer(optimizer, state.optimizer)
    return state.step


def _load(module: nn.Module, state: Tensors) -> None:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint is another model's ({str(error).splitlines()[0]}): resume in the run's own folder"
        ) from error


def read_values(path: Path) -> dict[str, Any]:
    """The plain values that a run wrote to a JSON file when it began.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): the run cannot be resumed") from error


def refuse_run(out: Path) -> UsageError:
    """The error where a new run's folder holds another run."""
    return UsageError(f"{out} holds a run already: resume it with --resume, or choose another --out")


def check_recipe(out: Path, before: Mapping[str, Any], recipe: dict[str, Any]) -> None:
    """Refuse to resume a run with another recipe.

    Args:
        out: folder of the run.
        before: plain values of the recipe that the run began with.
        recipe: those of the recipe now.

    Raises:
        UsageError: a value differs; notes do not count.
    """
    wanted = json.loads(json.dumps(recipe))
    for key in sorted({*before, *wanted} - {"notes"}):
        if before.get(key) != wanted.get(key):
            raise UsageError(
                f"the run in {out} was started with {key} = {before.get(key)!r}, the recipe now says "
                f"{wanted.get(key)!r}: resume it with its own recipe, or choose another --out"
            )
