"""The argument of `--checkpoint`: a file of weights, or `random:SEED`.

Seeded weights are enough where only structure and latency matter; every report then says so. The prefix always means a
seed; a file of such a name is written `./random:0`. This module does not import torch, so that the command line refuses
a wrong argument before it spends seconds on imports.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam_edge_runtime.bundle.manifest import Checkpoint
from sam_edge_runtime.errors import UsageError

from .cache import find_by_sha256

PREFIX = "random:"


@dataclass(frozen=True)
class CheckpointSource:
    """The origin of a model's weights: either `seed` or `path` is set, never both.

    Raises:
        UsageError: both or neither is set, or the seed is negative.
    """

    seed: int | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        """Check that exactly one of the two is set."""
        if (self.seed is None) == (self.path is None):
            raise UsageError("a checkpoint is either a file or a seed: give one of them")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"the seed {self.seed} of random weights is negative: choose a whole number from 0 up")

    @property
    def is_random(self) -> bool:
        """Whether the weights are seeded, not trained."""
        return self.seed is not None

    @property
    def label(self) -> str:
        """`random:SEED`, or the name of the file without its folders."""
        return f"{PREFIX}{self.seed}" if self.path is None else self.path.name


def parse_source(text: str | Path) -> CheckpointSource:
    """The source that a command line argument names. The file is not opened yet.

    Raises:
        UsageError: the argument is empty, or the seed after `random:` is no whole number from 0 up.
    """
    if isinstance(text, Path):
        return CheckpointSource(path=text)
    if not text.strip():
        raise UsageError("the checkpoint is empty: give a file, or random:SEED such as random:0")
    if not text.startswith(PREFIX):
        return CheckpointSource(path=Path(text).expanduser())
    digits = text.removeprefix(PREFIX)
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(f"{text!r}: the seed of random weights is a whole number from 0 up, such as random:0")
    return CheckpointSource(seed=int(digits))


def recorded_source(checkpoint: Checkpoint) -> CheckpointSource | None:
    """The weights that a manifest names, or None if this machine does not have them.

    Seeded weights can always be made again. A file is searched by its sha256 in the package and the download cache.
    """
    if checkpoint.random:
        return parse_source(checkpoint.source)
    path = None if checkpoint.sha256 is None else find_by_sha256(checkpoint.sha256)
    return None if path is None else CheckpointSource(path=path)
