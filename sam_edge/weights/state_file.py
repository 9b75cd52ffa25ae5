"""A file of weights -> named tensors, without running anything that the file asks for.

`.safetensors` holds nothing but tensors. What torch.save writes is a pickle, a small program, so it is only ever read
with `weights_only=True`, which knows how to build tensors and plain containers and refuses the rest. When torch
refuses, the pickle's instructions are listed here, never followed, to tell a broken file from one that wants to run
code: the first calls for a new download, the second for distrust.
"""

from __future__ import annotations

import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from sam_edge.reporting.wording import in_one_line
from sam_edge_runtime.errors import CheckpointError

from .packed import unpacked

NESTED_UNDER = ("model", "state_dict")  # where training scripts keep the weights in a larger dict
ZIP_MAGIC = b"PK\x03\x04"
# torch.save before 1.6 wrote five pickles in a row (magic, version, system, object, keys), then raw bytes.
LEGACY_PICKLES = 5
REMEDY = "load it where you trust it and save its state_dict() with torch.save or as .safetensors"


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of the file at `path` by name, on the CPU, mapped from the file where its format allows.

    Args:
        path: what torch.save made of a state dict, or of a dict that holds one as `model` or `state_dict`; or a
            `.safetensors` file.

    Raises:
        CheckpointError: the file is missing, a folder, unreadable, empty, truncated or corrupt, wants to run code, or
            holds something other than named tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(ZIP_MAGIC))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no checkpoint at {path}: `sam-edge download vit_b` fetches one, and random:0 does without"
        ) from error
    except IsADirectoryError as error:
        raise CheckpointError(f"{path} is a folder: name the file of weights in it") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    if not start:
        raise CheckpointError(f"{path} is empty: copy or download it again")
    if path.suffix == ".safetensors":
        return unpacked(_tensors(path, _read_safetensors(path)), str(path))
    if start == ZIP_MAGIC:
        _check_archive(path)
    return _tensors(path, _read_torch(path, mapped=start == ZIP_MAGIC))


def _check_archive(path: Path) -> None:
    """Refuse the zip files that torch would describe at length."""
    try:
        whole = zipfile.is_zipfile(path)
        program = whole and _holds(path, "/constants.pkl")
    except Exception as error:  # a broken table of contents fails in whatever way its bytes lead to
        raise _corrupt(path, error) from error
    if not whole:
        raise CheckpointError(f"{path} is truncated (its table of contents is missing): copy or download it again")
    if program:
        raise CheckpointError(f"{path} is a TorchScript program, not a file of weights: {REMEDY}")


def _holds(path: Path, ending: str) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(ending) for name in archive.namelist())


def _read_safetensors(path: Path) -> object:
    try:
        import safetensors.torch  # noqa: PLC0415  # torch's own files are read without it
    except ImportError as error:
        raise CheckpointError(f"{path.name} needs safetensors: pip install safetensors") from error
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except Exception as error:  # a broken header fails in whatever way its bytes lead to
        raise _corrupt(path, error) from error


def _read_torch(path: Path, *, mapped: bool) -> object:
    try:
        with warnings.catch_warnings():
            # Said before torch refuses most such files; the error below is the one line to read.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a broken pickle fails in whatever way its bytes lead to
        asked_for = _foreign_names(path)
        if asked_for:
            raise CheckpointError(
                f"{path} wants to run code when it is loaded (it names {in_one_line(asked_for[0])}); "
                f"it was refused and nothing was run: {REMEDY}"
            ) from error
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> CheckpointError:
    # torch's text on a refused pickle advises weights_only=False: the last thing to do with a file one did not write.
    refused = isinstance(error, pickle.UnpicklingError)
    reason = "no pickle that torch.save writes" if refused else str(error).strip().split("\n", 1)[0].split(". ", 1)[0]
    reason = in_one_line(reason) if " " in reason else type(error).__name__
    return CheckpointError(f"{path} is truncated, corrupt or no file of weights ({reason}): copy or download it again")


def _foreign_names(path: Path) -> list[str]:
    """What the pickles in the file would have Python look up, beyond torch's own and OrderedDict.

    Empty as well when the instructions end early or make no sense: then the file is broken, whatever else it wants.
    """
    names: list[str] = []
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    if entry.endswith("/data.pkl"):
                        with archive.open(entry) as file:
                            names += _looked_up(file)
        else:
            with path.open("rb") as file:
                for _ in range(LEGACY_PICKLES):
                    if not file.peek(1):
                        break
                    names += _looked_up(file)
    except Exception:  # noqa: BLE001  as above: the bytes may be anything
        return []
    return [name for name in names if not name.startswith(("torch.", "collections.OrderedDict"))]


def _looked_up(stream: IO[bytes]) -> Iterator[str]:
    """The `module.name` of each lookup in one pickle. Only reads; a name that was memoized may come out incomplete."""
    strings: list[str] = []
    for instruction, argument, _ in pickletools.genops(stream):
        if instruction.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif instruction.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _tensors(path: Path, loaded: object) -> dict[str, torch.Tensor]:
    """The state dict in what was loaded, itself or under one of the names in NESTED_UNDER."""
    if isinstance(loaded, dict):
        inner = [key for key in NESTED_UNDER if isinstance(loaded.get(key), dict)]
        if len(inner) > 1:
            raise CheckpointError(f"{path} holds weights under both {' and '.join(inner)}: save the right one alone")
        if inner:
            loaded = loaded[inner[0]]
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not a state dict (names to tensors)")
    if not loaded:
        raise CheckpointError(f"{path} holds an empty state dict")
    state: dict[str, torch.Tensor] = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            entry = in_one_line(repr(name))
            raise CheckpointError(
                f"{path} is not a state dict (names to tensors): entry {entry} is a {type(value).__name__}"
            )
        state[name] = value
    return state
