"""What a checkpoint source holds: a file, a folder as `save_pretrained` writes it, or a repository on the Hub.

Files are read, never run. A sharded model's index (`*.index.json`) maps each tensor to a file of the same folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sam_edge_runtime.errors import CheckpointError, UsageError, short_name
from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.files import sha256_of

from .adapters import PeftConfig
from .hub import HubAddress, Repository, parse_address
from .source import ADAPTERS, INDEX, MODELS, SUFFIXES, CheckpointSource
from .state_file import read_file

ADAPTER_CONFIG = "adapter_config.json"
MOST_SHARDS = 1000
SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")  # a plain name: no folder, no `..`


@dataclass(frozen=True, eq=False)
class Contents:
    """A checkpoint as it was stored.

    Attributes:
        files: the files whose tensors were read, in the order of their names.
        tree: tensors by name, or dicts that nest them.
        adapter: the configuration of peft's adapters in `tree`.
        base: the model that these adapt, where it is stored apart.
        licence: that the repository's card states; empty if it states none, or if the weights are not of the Hub.
        beside: finds a file beside them, in the folder or on the Hub.
    """

    files: tuple[Path, ...]
    tree: dict[Any, object]
    adapter: PeftConfig | None = None
    base: Contents | None = None
    licence: str = ""
    beside: Finder = lambda names: None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file; of several, that of `sha256sum`'s lines for them, with bare names, base model last."""
        files = [*self.files, *(self.base.files if self.base else ())]
        if len(files) == 1:
            return sha256_of(files[0])
        lines = "".join(f"{sha256_of(path)}  {path.name}\n" for path in files)
        return hashlib.sha256(lines.encode()).hexdigest()


Finder = Callable[[Iterable[str]], Path | None]  # the first file of these names


def read_source(source: CheckpointSource) -> Contents:
    """What a file, a folder or a repository holds.

    Raises:
        CheckpointError: as `read_contents` and `read_hub`, or the source is a seed.
        UsageError: as `read_hub`.
    """
    if source.hub is not None:
        return read_hub(source.hub)
    if source.path is not None:
        return read_contents(source.path)
    raise CheckpointError(f"{source.label} is no file: name a file of weights")


def read_contents(path: Path) -> Contents:
    """What the file or folder at `path` holds.

    Raises:
        CheckpointError: it cannot be read, a shard is missing or outside the folder, or an adapter's base is missing.
    """
    if path.is_dir():
        return _from_repository(_finder(path), f"the folder {path}", path)
    return _from_file(path, _finder(path.parent), str(path))


def read_hub(address: HubAddress) -> Contents:
    """What a repository on the Hub holds.

    Raises:
        CheckpointError: as `read_contents`, or it cannot be fetched.
        UsageError: huggingface_hub is not installed, or the repository's licence was not accepted.
    """
    repository = Repository(address)
    return replace(_from_hub(repository), licence=repository.licence)


def _from_hub(repository: Repository) -> Contents:
    address, find = repository.address, repository.fetch
    if address.file is None:
        return _from_repository(find, str(address), None)
    folder, _, _ = address.file.rpartition("/")
    beside = f"{folder}/" if folder else ""

    def find_beside(names: Iterable[str]) -> Path | None:
        return find([beside + name for name in names])

    path = find([address.file])
    if path is None:
        raise CheckpointError(f"{address.repository} has no file {address.file}: check its name on the Hub")
    return _from_file(path, find_beside, str(address))


def _from_repository(find: Finder, label: str, folder: Path | None, *, adapters: bool = True) -> Contents:
    """A model, or an adapter with its base; a folder may also hold one file of weights of any name."""
    path = find((*MODELS, *(ADAPTERS if adapters else ())))
    if path is None and folder is not None:
        found = sorted(each for each in folder.iterdir() if each.suffix in SUFFIXES and each.is_file())
        path = found[0] if len(found) == 1 else None
    if path is None:
        remedy = "name the file of weights in it" if folder is not None else f"name one, as {label}/FILE"
        what = "is a folder" if folder is not None else "is a repository"
        raise CheckpointError(f"{label.removeprefix('the folder ')} {what} without one model ({MODELS[0]}): {remedy}")
    return _from_file(path, find, label)


def _from_file(path: Path, find: Finder, label: str) -> Contents:
    """The file and what belongs to it: the other shards, the configuration of an adapter, and its base model."""
    if path.name.endswith(INDEX):
        return _from_index(path, find, label)
    contents = Contents((path,), read_file(path), beside=find)
    if not _holds_peft(contents.tree):
        return contents
    config_path = find([ADAPTER_CONFIG])
    if config_path is None:
        return contents
    config = PeftConfig.from_json(_read_json(config_path), f"{label}: {ADAPTER_CONFIG}")
    if path.name not in ADAPTERS:
        return replace(contents, adapter=config)
    return replace(contents, adapter=config, base=_base_of(config, path.parent, label))


def _base_of(config: PeftConfig, folder: Path, label: str) -> Contents:
    """The model that an adapter adapts, by the path or repository that its configuration names."""
    for candidate in (Path(config.base), folder / config.base):  # no adapter of its own: two could name each other
        if config.base and candidate.is_dir():
            return _from_repository(_finder(candidate), f"the folder {candidate}", candidate, adapters=False)
        if config.base and candidate.is_file():
            return Contents((candidate,), read_file(candidate))
    missing = f"{label} holds a LoRA without its base model"
    try:
        address = parse_address(config.base)
    except UsageError:
        raise CheckpointError(
            f"{missing} ({short_name(config.base) or 'adapter_config.json names none'}): merge it in peft "
            "(merge_and_unload) and save the model"
        ) from None
    try:
        return _from_repository(Repository(address).fetch, str(address), None, adapters=False)
    except CheckpointError as error:
        raise CheckpointError(f"{missing}: {error.original}") from error


def _from_index(path: Path, find: Finder, label: str) -> Contents:
    document = _read_json(path)
    names = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(each, str) for each in names.values()):
        raise CheckpointError(f"{path} is no index of shards: it maps no tensors to files in `weight_map`")
    shards = sorted(set(names.values()))
    if len(shards) > MOST_SHARDS:
        raise CheckpointError(f"{path} names {len(shards)} shards: save the model in fewer than {MOST_SHARDS}")
    for shard in shards:
        if not SHARD.fullmatch(shard):
            raise CheckpointError(
                f"{path} names a shard outside its folder ({short_name(shard)}): copy the model's folder again"
            )
    files = []
    for shard in shards:  # all of them before the first is read
        file = find([shard])
        if file is None:
            raise CheckpointError(f"{label} has no shard {short_name(shard)}, which {path.name} names: copy it again")
        files.append(file)
    held = {shard: read_file(file) for shard, file in zip(shards, files, strict=True)}
    for name, shard in names.items():
        if name not in held[shard]:
            raise CheckpointError(
                f"{short_name(shard)} has no {short_name(name)}, as {path.name} says: copy the model's folder again"
            )
    return Contents(tuple(files), {name: held[shard][name] for name, shard in names.items()}, beside=find)


def _holds_peft(tree: dict[Any, object]) -> bool:
    """Whether a dict of tensors, or one in it, has adapters of peft."""
    dicts = [tree, *(value for value in tree.values() if isinstance(value, dict))]
    return any(".lora_A" in str(key) for each in dicts for key in each)


def _finder(folder: Path) -> Finder:
    return lambda names: next((folder / name for name in names if (folder / name).is_file()), None)


def _read_json(path: Path) -> object:
    try:
        document: object = read_json(path)
        return document
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error}): copy it again") from error
