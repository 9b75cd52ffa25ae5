"""Load a checkpoint source into a model, and record what was loaded for manifests and reports.

The whole file is read and checked before the first number is copied, so a refused checkpoint leaves the model
unchanged. The cost: file and model are in memory at the same time. Files in torch's zip format are memory-mapped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sam_edge_runtime.errors import CheckpointError
from sam_edge_runtime.system.files import sha256_of

from .fit import check_fit
from .seeded import seed_module
from .source import CheckpointSource, parse_source
from .state_file import read_state

__all__ = ["CheckpointRecord", "CheckpointSource", "load_into", "parse_source"]


@dataclass(frozen=True)
class CheckpointRecord:
    """The weights that a model was loaded with.

    Attributes:
        label: `random:SEED`, or the file's name without its folders.
        sha256: of the file; None for seeded weights.
        is_random: whether the weights are seeded, not trained; reports then say so.
    """

    label: str
    sha256: str | None
    is_random: bool


def load_into(model: torch.nn.Module, source: CheckpointSource) -> CheckpointRecord:
    """Load the weights of `source` into `model`, strictly: every name and shape must agree.

    A file in another floating point precision is converted to the model's.

    Raises:
        CheckpointError: the file cannot be read, would run code, or is not for this model; `model` is unchanged.
    """
    if source.seed is not None:
        seed_module(model, source.seed)
        return CheckpointRecord(source.label, None, is_random=True)
    if source.path is None:  # CheckpointSource refuses this already; for the type checker
        raise CheckpointError("a checkpoint is either a file or a seed")
    state = read_state(source.path)
    check_fit(state, model, source.label)
    digest = sha256_of(source.path)
    model.load_state_dict(state, strict=True, assign=False)
    return CheckpointRecord(source.label, digest, is_random=False)
