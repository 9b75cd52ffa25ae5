"""The text encoder of a bundle: the artifact that `sam-edge export-clip` wrote, copied into the bundle's folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sam_edge_runtime.bundle.text import TOWER, TextPart, TowerRules
from sam_edge_runtime.bundle.tokenizer import FILE as TOKENIZER_FILE
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.files import sha256_of

from .clip import FILE, TEXT


@dataclass(frozen=True)
class ExportedTower:
    """A text encoder in a folder of `sam-edge export-clip`.

    Attributes:
        folder: that has it.
        part: the manifest's section on it.
    """

    folder: Path
    part: TextPart

    def copy_to(self, bundle: Path) -> None:
        """Copy the graph and the tokenizer into a bundle's folder."""
        for source in self._files():
            copy = shutil.copytree if source.is_dir() else shutil.copyfile
            copy(source, bundle / source.name)

    def _files(self) -> Iterator[Path]:
        for name in self.part.files:
            yield self.folder / name
            beside = self.folder / f"{name}.data"  # weights of an ONNX file of more than 2 GB
            if beside.is_file():
                yield beside


def read_tower(folder: Path, target: str) -> ExportedTower:
    """The text encoder in a folder of `sam-edge export-clip`.

    Args:
        folder: with `towers.json`.
        target: of the bundle.

    Raises:
        UsageError: the folder has no text encoder for the target, lacks its tokenizer, or was changed.
    """
    again = "make it with `sam-edge export-clip`"
    try:
        document = read_json(folder / FILE)
        encoder = document["encoders"][TEXT]
        files = {str(name): str(digest) for name, digest in document["files"].items()}
        part = TextPart(
            TOWER,
            int(document["dim"]),
            str(encoder["file"]),
            tokenizer=(TOKENIZER_FILE,),
            rules=TowerRules(
                int(document["context"]),
                int(document["vocabulary"]),
                int(document["end_token"]),
                bool(document["lower_case"]),
            ),
            source=str(document["weights"]),
            sha256=document["weights_sha256"],
            licence=str(document["licence"]),
        )
        made_for = str(document["target"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--text-encoder {folder} holds no text encoder ({error!r:.80}): {again}") from error
    if made_for != target:
        raise UsageError(f"--text-encoder {folder} is for target {made_for}, and the bundle is for {target}: {again}")
    for name in part.files:
        kept = [file for file in files if file == name or file.startswith(f"{name}/")]
        if not kept:
            raise UsageError(f"--text-encoder {folder} has no {name}: {again}, with --tokenizer")
        for file in kept:
            if not (folder / file).is_file() or sha256_of(folder / file) != files[file]:
                raise UsageError(f"--text-encoder {folder}: {file} is missing or was changed: {again} again")
    return ExportedTower(folder, part)
