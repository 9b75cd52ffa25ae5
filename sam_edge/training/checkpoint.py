"""The state of a run after a step, in one safetensors file that is written atomically.

It holds the weights, their running average, the optimizer's moments, the step and the recipe. Resuming needs nothing
else, because photos, prompts and the learning rate are functions of the seed and the step. The file holds only tensors
and text, so reading it runs no code.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sam_edge_runtime.errors import CheckpointError
from sam_edge_runtime.system.documents import parse_json
from sam_edge_runtime.system.files import write_file

FOLDER = "checkpoints"
KEPT = 2
_NAME = re.compile(r"step-(\d{8})\.safetensors")
_META = "sam_edge_training"
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingState:
    """A run after `step` optimizer steps.

    Attributes:
        step: number of steps done.
        recipe: the run's recipe as plain values.
        model: the trained module's state dict.
        average: the state dict of its running average.
        optimizer: moments by name, for example `exp_avg/mask_decoder.iou_token.weight`.
    """

    step: int
    recipe: dict[str, Any]
    model: Tensors
    average: Tensors
    optimizer: Tensors


def save_state(run: Path, state: TrainingState) -> Path:
    """Write a checkpoint, and remove all but the last `KEPT`.

    Raises:
        OutputError: it cannot be written; earlier checkpoints are kept.
    """
    parts = {"model": state.model, "average": state.average, "optimizer": state.optimizer}
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous().clone()
        for part, group in parts.items()
        for name, tensor in group.items()
    }
    path = run / FOLDER / f"step-{state.step:08d}.safetensors"
    text = json.dumps({"step": state.step, "recipe": state.recipe})
    write_file(path, save(tensors, {_META: text}), overwrite=True)
    for old in checkpoints(run)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    folder = run / FOLDER
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if _NAME.fullmatch(path.name))


def read_training_state(path: Path) -> TrainingState:
    """Read a checkpoint to the CPU.

    Raises:
        CheckpointError: it is missing or damaged, or `save_state` did not write it.
    """
    groups: dict[str, Tensors] = {"model": {}, "average": {}, "optimizer": {}}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            meta = parse_json((file.metadata() or {})[_META])
            for name in file.keys():  # noqa: SIM118 - it is a file, not a dict
                part, _, rest = name.partition("/")
                groups[part][rest] = file.get_tensor(name)
        return TrainingState(int(meta["step"]), dict(meta["recipe"]), **groups)
    except FileNotFoundError as error:
        raise CheckpointError(f"no training checkpoint at {path}: start the run without --resume") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path} is no training checkpoint, or damaged ({error}): remove it, and --resume uses the one before"
        ) from error
