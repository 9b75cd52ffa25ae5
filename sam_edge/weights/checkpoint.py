"""Load a checkpoint source into a model, and record what was loaded for manifests and reports.

Everything is read and checked before the first number is copied, so a refused checkpoint leaves the model unchanged.
The cost: file and model are in memory at the same time. Files in torch's zip format are memory-mapped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .families import is_spare
from .fit import check_fit
from .recognition import Checkpoint, read_checkpoint
from .seeded import seed_module
from .source import CheckpointSource, parse_source

__all__ = ["CheckpointRecord", "CheckpointSource", "load_into", "parse_source"]


@dataclass(frozen=True)
class CheckpointRecord:
    """The weights that a model was loaded with.

    Attributes:
        label: `random:SEED`, `hf:OWNER/NAME`, or the file's name without its folders.
        sha256: of the file, or of several as in `Contents.sha256`; None for seeded weights.
        is_random: whether the weights are seeded, not trained; reports then say so.
    """

    label: str
    sha256: str | None
    is_random: bool


def load_into(model: torch.nn.Module, source: CheckpointSource) -> CheckpointRecord:
    """Load the weights of `source` into `model`, strictly: every name and shape must agree.

    Weights in another precision are converted to the model's. What stands beside them is left out.

    Raises:
        CheckpointError: the weights cannot be read, would run code, or are not for this model; `model` is unchanged.
    """
    if source.seed is not None:
        seed_module(model, source.seed)
        return CheckpointRecord(source.label, None, is_random=True)
    return copy_into(model, read_checkpoint(source))


def copy_into(model: torch.nn.Module, checkpoint: Checkpoint) -> CheckpointRecord:
    """Copy the tensors of `checkpoint` into `model`; those that no mask depends on are zero where it lacks them.

    Raises:
        CheckpointError: they are not for this model; `model` is unchanged.
    """
    state = dict(checkpoint.state)
    for name, tensor in model.state_dict().items():
        if name not in state and is_spare(name):
            state[name] = torch.zeros_like(tensor)
    check_fit(state, model, checkpoint.label)
    digest = checkpoint.contents.sha256
    model.load_state_dict(state, strict=True, assign=False)
    return CheckpointRecord(checkpoint.label, digest, is_random=False)
