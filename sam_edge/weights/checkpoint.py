"""A checkpoint source -> a model with those weights, and a record for manifests and reports.

Everything is read and checked before the first number is copied, so a checkpoint that is refused leaves the model as it
was. The price is the file and the model in memory together; torch's zip format is mapped from the disk to soften it.
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
    """What a model was loaded with.

    Attributes:
        label: `random:SEED`, or the file's name without its folders.
        sha256: of the file; None for seeded weights.
        is_random: whether reports must say "random weights".
    """

    label: str
    sha256: str | None
    is_random: bool


def load_into(model: torch.nn.Module, source: CheckpointSource) -> CheckpointRecord:
    """Give `model` the weights of `source`, strictly: every name and shape must agree.

    A file in another floating point precision is converted to the model's.

    Raises:
        CheckpointError: the file cannot be read, wants to run code, or is not for this model; `model` is unchanged.
    """
    if source.seed is not None:
        seed_module(model, source.seed)
        return CheckpointRecord(source.label, None, is_random=True)
    if source.path is None:  # CheckpointSource has made sure of one of the two
        raise CheckpointError("a checkpoint is either a file or a seed")
    state = read_state(source.path)
    check_fit(state, model, source.label)
    digest = sha256_of(source.path)
    model.load_state_dict(state, strict=True, assign=False)
    return CheckpointRecord(source.label, digest, is_random=False)
