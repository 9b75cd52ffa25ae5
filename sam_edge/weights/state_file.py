"""Read a file of weights as named tensors, without running code from the file.

`.safetensors` holds only tensors. torch.save writes a pickle, which is a small program. It is only read with
`weights_only=True`: torch then builds tensors and plain containers and refuses everything else. When torch refuses,
this module lists the pickle's instructions, without executing them, to distinguish a broken file from one that would
run code. A broken file should be downloaded again; the other should not be trusted.
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

from sam_edge_runtime.errors import CheckpointError, short_name

from .packed import unpacked

NESTED_UNDER = ("model", "state_dict")  # keys under which training scripts store the weights in a larger dict
ZIP_MAGIC = b"PK\x03\x04"
# torch.save before 1.6 wrote five pickles in a row (magic, version, system, object, keys), then raw bytes.
LEGACY_PICKLES = 5
REMEDY = "if you trust it, load it yourself and save its state_dict() with torch.save or as .safetensors"


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of the file at `path` by name, on the CPU, memory-mapped where the format allows it.

    Args:
        path: a `.safetensors` file, or a file that torch.save wrote: a state dict, or a dict that holds one under
            `model` or `state_dict`.

    Raises:
        CheckpointError: the file is missing, a folder, unreadable, empty, truncated or corrupt, would run code, or
            holds anything but named tensors.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CheckpointError(f"{path} is a pipe or a device: name a file of weights")  # it might never end
    try:
        with path.open("rb") as file:
            start = file.read(len(ZIP_MAGIC))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no checkpoint at {path}: check the path, download one with `sam-edge download vit_b`, or use random:0"
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
    """Refuse zip files for which torch's own message is long."""
    try:
        whole = zipfile.is_zipfile(path)
        program = whole and _holds(path, "/constants.pkl")
    except Exception as error:  # a broken table of contents can raise anything
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
        import safetensors.torch  # noqa: PLC0415  # torch's own files do not need it
    except ImportError as error:
        raise CheckpointError(f"{path.name} needs safetensors: pip install safetensors") from error
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except Exception as error:  # a broken header can raise anything
        raise _corrupt(path, error) from error


def _read_torch(path: Path, *, mapped: bool) -> object:
    try:
        with warnings.catch_warnings():
            # torch warns before it refuses most such files; the error below says it in one line.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a broken pickle can raise anything
        names = _foreign_names(path)
        if names:
            raise CheckpointError(
                f"{path} would run code when it is loaded (it names {short_name(names[0])}); "
                f"it was refused and nothing was run: {REMEDY}"
            ) from error
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> CheckpointError:
    # torch's message on a refused pickle advises weights_only=False, which is unsafe with a file from somebody else.
    refused = isinstance(error, pickle.UnpicklingError)
    reason = "no pickle that torch.save writes" if refused else str(error).strip().split("\n", 1)[0].split(". ", 1)[0]
    reason = short_name(reason) if " " in reason else type(error).__name__
    return CheckpointError(f"{path} is truncated, corrupt or no file of weights ({reason}): copy or download it again")


def _foreign_names(path: Path) -> list[str]:
    """The names that the file's pickles would import, except torch's own and OrderedDict.

    Empty also if the instructions end early or are invalid: then the file is broken.
    """
    names: list[str] = []
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    if entry.endswith("/data.pkl"):
                        with archive.open(entry) as file:
                            names += _imports(file)
        else:
            with path.open("rb") as file:
                for _ in range(LEGACY_PICKLES):
                    if not file.peek(1):
                        break
                    names += _imports(file)
    except Exception:  # noqa: BLE001  as above: broken bytes can raise anything
        return []
    return [name for name in names if not name.startswith(("torch.", "collections.OrderedDict"))]


def _imports(stream: IO[bytes]) -> Iterator[str]:
    """The `module.name` of each import in one pickle, which is read, not run; memoized names may be incomplete."""
    strings: list[str] = []
    for instruction, argument, _ in pickletools.genops(stream):
        if instruction.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif instruction.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _tensors(path: Path, loaded: object) -> dict[str, torch.Tensor]:
    """The state dict in a loaded file: the whole content, or the part under a key of NESTED_UNDER."""
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
            entry = short_name(repr(name))
            raise CheckpointError(
                f"{path} is not a state dict (names to tensors): entry {entry} is a {type(value).__name__}"
            )
        state[name] = value
    return state
