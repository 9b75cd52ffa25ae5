"""The argument of `--checkpoint`: a file or folder of weights, `hf:OWNER/NAME` (Hugging Face), or `random:SEED`.

Seeded weights are enough where only structure and latency matter; every report then says so. The two prefixes always
mean what they stand for; a file of such a name is written `./random:0`. This module does not import torch, so that the
command line refuses a wrong argument before it spends seconds on imports.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam_edge_runtime.bundle.manifest import Checkpoint
from sam_edge_runtime.errors import UsageError

from .cache import find_by_sha256
from .hub import PREFIX as HUB_PREFIX
from .hub import HubAddress, parse_address

PREFIX = "random:"
INDEX = ".index.json"  # of a model in several files
# A model's files in a folder by their usual names; the first that exists counts. After them, those of a peft adapter.
MODELS = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


@dataclass(frozen=True)
class CheckpointSource:
    """The origin of a model's weights: a seed, a file or folder, or a repository on the Hub; exactly one of them.

    Raises:
        UsageError: several or none are set, or the seed is negative.
    """

    seed: int | None = None
    path: Path | None = None
    hub: HubAddress | None = None

    def __post_init__(self) -> None:
        """Check that exactly one is set."""
        if sum(each is not None for each in (self.seed, self.path, self.hub)) != 1:
            raise UsageError("a checkpoint is a file, a repository or a seed: give one of them")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"the seed {self.seed} of random weights is negative: choose an integer from 0 up")

    @property
    def is_random(self) -> bool:
        """Whether the weights are seeded, not trained."""
        return self.seed is not None

    @property
    def label(self) -> str:
        """`random:SEED`, `hf:OWNER/NAME`, or the name of the file without its folders."""
        if self.path is not None:
            return self.path.name or self.path.absolute().name
        return str(self.hub) if self.hub is not None else f"{PREFIX}{self.seed}"


def parse_source(text: str | Path) -> CheckpointSource:
    """The source that a command line argument names. The file is not opened yet.

    Raises:
        UsageError: the argument is empty, the seed after `random:` is no integer from 0 up, or what follows `hf:`
            is no repository.
    """
    if isinstance(text, Path):
        return CheckpointSource(path=text)
    if not text.strip():
        raise UsageError("the checkpoint is empty: give a file, or random:SEED such as random:0")
    if text.startswith(HUB_PREFIX):
        return CheckpointSource(hub=parse_address(text))
    if not text.startswith(PREFIX):
        return CheckpointSource(path=Path(text).expanduser())
    digits = text.removeprefix(PREFIX)
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(f"{text!r}: the seed of random weights is an integer from 0 up, such as random:0")
    return CheckpointSource(seed=int(digits))


def names_weights(text: str | Path) -> bool:
    """Whether an argument that may also be a bundle is a repository, a file or a folder of weights, by its name."""
    if str(text).startswith(HUB_PREFIX):
        return True
    path = Path(text).expanduser()
    if path.is_dir():
        return any((path / name).is_file() for name in (*MODELS, *ADAPTERS))
    return path.suffix in SUFFIXES or path.name.endswith(INDEX)


def recorded_source(checkpoint: Checkpoint) -> CheckpointSource | None:
    """The weights that a manifest names, or None if this machine does not have them.

    Seeded weights can always be made again. A file is searched by its sha256 in the package and the download cache.
    """
    if checkpoint.random:
        return parse_source(checkpoint.source)
    path = None if checkpoint.sha256 is None else find_by_sha256(checkpoint.sha256)
    return None if path is None else CheckpointSource(path=path)
