"""Read one file of weights without running code from the file.

`.safetensors` holds only tensors. A TorchScript archive is read by `torchscript`, without its program. torch.save
writes a pickle, which is a small program. It is only read with `weights_only=True`: torch then builds tensors and plain
containers and refuses everything else, except the few harmless classes of `_harmless`. When torch refuses, this module
lists the pickle's instructions, without executing them, to distinguish a broken file from one that would run code. A
broken file should be downloaded again; the other should not be trusted.

The content decides the format, not the file's name.
"""

from __future__ import annotations

import argparse
import pathlib
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from sam_edge_runtime.errors import CheckpointError, short_name

from .packed import unpacked
from .torchscript import read_program

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
# torch.save before 1.6 wrote five pickles in a row (magic, version, system, object, keys), then raw bytes.
LEGACY_PICKLES = 5
SIZE_BYTES = 8  # a safetensors file begins with the size of its JSON header
REMEDY = "if you trust it, load it yourself and save its state_dict() with torch.save or as .safetensors"


def read_file(path: Path) -> dict[Any, object]:
    """What the file at `path` holds: tensors by name, or a training script's dict that nests them.

    Tensors are on the CPU, wherever they were saved, and memory-mapped where the format allows it.

    Args:
        path: a safetensors file, or a file that torch.save wrote.

    Raises:
        CheckpointError: the file is missing, a folder, unreadable, empty, truncated or corrupt, would run code, or
            holds no dict.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CheckpointError(f"{path} is a pipe or a device: name a file of weights")  # it might never end
    try:
        with path.open("rb") as file:
            start = file.read(SIZE_BYTES + 1)
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
    zipped = start.startswith(ZIP_MAGIC)
    if start[SIZE_BYTES:] == b"{" or (path.suffix == ".safetensors" and not zipped and start[:1] != PICKLE_MAGIC):
        return dict[Any, object](unpacked(_read_safetensors(path), str(path)))
    if zipped and _is_program(path):
        return dict[Any, object](read_program(path))
    loaded = _read_torch(path, mapped=zipped)
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not a state dict (names to tensors)")
    return loaded


def _is_program(path: Path) -> bool:
    """Whether a zip file is of TorchScript.

    Raises:
        CheckpointError: it is truncated or corrupt; torch's own message for that is long.
    """
    try:
        whole = zipfile.is_zipfile(path)
        program = whole and _holds(path, "/constants.pkl")
    except Exception as error:  # a broken table of contents can raise anything
        raise _corrupt(path, error) from error
    if not whole:
        raise CheckpointError(f"{path} is truncated (its table of contents is missing): copy or download it again")
    return program


def _holds(path: Path, ending: str) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(ending) for name in archive.namelist())


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        import safetensors.torch  # noqa: PLC0415  # torch's own files do not need it
    except ImportError as error:
        raise CheckpointError(f"{path.name} needs safetensors: pip install safetensors") from error
    try:
        return dict(safetensors.torch.load_file(path, device="cpu"))
    except Exception as error:  # a broken header can raise anything
        raise _corrupt(path, error) from error


def _read_torch(path: Path, *, mapped: bool) -> object:
    try:
        with warnings.catch_warnings():
            # torch warns before it refuses most such files; the error below says it in one line.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            with torch.serialization.safe_globals(_harmless()):
                if path.suffix == ".safetensors":  # torch goes by this name; a stream has none
                    with path.open("rb") as stream:
                        return torch.load(stream, map_location="cpu", weights_only=True)
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
    harmless = {each[1] if isinstance(each, tuple) else f"{each.__module__}.{each.__name__}" for each in _harmless()}
    return [
        name for name in names if not name.startswith(("torch.", "collections.OrderedDict")) and name not in harmless
    ]


def _harmless() -> list[Any]:
    """What training scripts save beside weights and what cannot run code: arguments, paths, numpy's numbers.

    Each is a class or function, or a pair of one and the name that pickles have for it.
    """
    scalar = np.float64(0).__reduce__()[0]  # numpy's own function that makes a number of a type and bytes
    types = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    paths = [
        (pure, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name, pure in (("PosixPath", pathlib.PurePosixPath), ("WindowsPath", pathlib.PureWindowsPath))
    ]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # of numpy 1 and 2
    return [argparse.Namespace, np.dtype, *types, *((scalar, name) for name in names), *paths]


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
