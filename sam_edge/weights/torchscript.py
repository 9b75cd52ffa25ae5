"""Read the tensors out of a TorchScript archive (torch.jit.save) without running its code.

OpenAI publishes CLIP in this form. The archive's `data.pkl` is a pickle of modules, whose classes are programs in the
archive, and of tensors, whose bytes are files beside it. Here a module becomes a plain holder of its attributes, and
every other name that the pickle imports is refused.
"""

from __future__ import annotations

import pickle  # the reader below imports nothing that a file names
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from sam_edge_runtime.errors import CheckpointError, first_line, short_name

DATA = "/data.pkl"
_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
_DEEPEST = 64  # modules within modules


class _Module:
    """A module of the archive: its attributes by name."""

    def __init__(self, *_: object) -> None:
        self.attributes: dict[str, object] = {}

    def __setstate__(self, state: object) -> None:
        self.attributes = dict(state) if isinstance(state, dict) else {}


def read_program(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of an archive by their names in the module.

    Args:
        path: a file that torch.jit.save wrote.

    Raises:
        CheckpointError: the archive is damaged, or its pickle imports something else than modules and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith(DATA))
            with archive.open(entry) as stream:
                module = _Reader(stream, archive, entry.removesuffix(DATA)).load()
        if not isinstance(module, _Module):
            raise pickle.UnpicklingError("it holds no module")
        return dict(_tensors(module, "", _DEEPEST))
    except Exception as error:  # a damaged archive can raise anything
        reason = short_name(first_line(error))
        raise CheckpointError(
            f"{path} is a TorchScript program whose weights cannot be read without running it ({reason}): if you trust "
            "it, load it yourself and save its state_dict() with torch.save or as .safetensors"
        ) from error


class _Reader(pickle.Unpickler):
    """Builds modules and tensors, and refuses everything else."""

    def __init__(self, stream: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(stream)
        self._archive, self._root = archive, root
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name that the pickle imports."""
        if module.startswith("__torch__"):
            return _Module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        plain: dict[tuple[str, str], Callable[..., object]] = {
            ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
            ("torch.jit._pickle", "build_intlist"): list,
            ("torch.jit._pickle", "build_doublelist"): list,
            ("torch.jit._pickle", "build_boollist"): list,
            ("torch.jit._pickle", "build_tensorlist"): list,
            ("collections", "OrderedDict"): dict,
        }
        if (module, name) in plain:
            return plain[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """The numbers of one storage, flat; a file of the archive."""
        _, dtype, key, *_ = pid
        if key not in self._storages:
            info = self._archive.getinfo(f"{self._root}/data/{key}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise pickle.UnpicklingError("its tensors are compressed")
            content = bytearray(self._archive.read(info))
            self._storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return self._storages[key]


def _rebuilt(
    storage: torch.Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: object
) -> torch.Tensor:
    """A view of a storage; torch refuses one that leaves it."""
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _tensors(module: _Module, before: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in module.attributes.items():
        if isinstance(value, torch.Tensor):
            yield f"{before}{name}", value
        elif isinstance(value, _Module) and depth:
            yield from _tensors(value, f"{before}{name}.", depth - 1)
