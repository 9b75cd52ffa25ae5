"""What `--checkpoint` says: a file of weights, or `random:SEED`.

Seeded weights stand in wherever only structure and latency matter, and every report then says so. The prefix always
means a seed: a file of such a name is reached as `./random:0`. No torch here, so that a command line can refuse a wrong
argument before it spends seconds on imports.
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
    """Where a model's weights come from: either `seed` or `path` is set, never both.

    Raises:
        UsageError: both or none is set, or the seed is negative.
    """

    seed: int | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what is neither one nor the other."""
        if (self.seed is None) == (self.path is None):
            raise UsageError("a checkpoint is either a file or a seed")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"the seed of random weights is a whole number from 0 up, not {self.seed}")

    @property
    def is_random(self) -> bool:
        """Whether the weights are seeded, not trained."""
        return self.seed is not None

    @property
    def label(self) -> str:
        """`random:SEED`, or the name of the file without its folders."""
        return f"{PREFIX}{self.seed}" if self.path is None else self.path.name


def parse_source(text: str | Path) -> CheckpointSource:
    """The source that a command line argument names. The file is not looked at yet.

    Raises:
        UsageError: the argument is empty, or what follows `random:` is no whole number from 0 up.
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
    """The very weights that a manifest names, or None where they are not at hand.

    Seeded ones can always be made again; a file is looked for in the download cache, by its sha256.
    """
    if checkpoint.random:
        return parse_source(checkpoint.source)
    path = None if checkpoint.sha256 is None else find_by_sha256(checkpoint.sha256)
    return None if path is None else CheckpointSource(path=path)
