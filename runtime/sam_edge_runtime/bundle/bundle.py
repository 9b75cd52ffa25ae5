"""The bundle: a folder with the two graphs, their manifest, and their own acceptance test.

Reading one trusts nothing: the manifest is checked field by field, every path must stay inside the folder, and every
file must have the size and hash that the manifest names, all before a model is loaded. Hashing costs about a second a
gigabyte; `check_hashes=False` skips it (sizes and paths are checked regardless) for an app that verified the bundle
at install.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sam_edge_runtime.errors import BundleError
from sam_edge_runtime.system.files import sha256_of

from .manifest import FILE_NAME, FileRecord, Manifest

GOLDEN_FILE = "golden.npz"
REPORT_FILE = "report.json"
_LARGEST_MANIFEST = 4 << 20  # bytes; a real one has a few thousand


@dataclass(frozen=True)
class Bundle:
    """A checked bundle: its folder and its manifest."""

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path, *, check_hashes: bool = True) -> Bundle:
        """Read the bundle in folder `path`.

        Raises:
            BundleError: no bundle, of a newer format, incomplete, edited, or with a path that leaves the folder.
        """
        root = Path(path)
        try:
            manifest = Manifest.from_json(_read_manifest(root))
            for name, record in manifest.files.items():
                _check_file(root, name, record, check_hash=check_hashes)
        except OSError as error:
            raise BundleError(
                f"{error.filename or root} cannot be read ({error.strerror or error}): check the folder's name and "
                "permissions, or export the bundle again"
            ) from error
        for name in (manifest.encoder, manifest.decoder):
            if name not in manifest.files and not any(file.startswith(f"{name}/") for file in manifest.files):
                raise BundleError(f"{root}: {FILE_NAME} names the graph {name!r} but not its hash: export again")
        return cls(root, manifest)

    @property
    def encoder_path(self) -> Path:
        """The image encoder's file, or its folder where the target's graphs are folders."""
        return self.root / self.manifest.encoder

    @property
    def decoder_path(self) -> Path:
        """The mask decoder's file or folder."""
        return self.root / self.manifest.decoder

    @property
    def golden_path(self) -> Path | None:
        """The bundle's own acceptance test, or None if it was made without one."""
        return self.root / GOLDEN_FILE if GOLDEN_FILE in self.manifest.files else None

    def report(self) -> dict[str, Any]:
        """What verification measured when the bundle was made (`report.json`); empty where it says nothing."""
        try:
            report = json.loads((self.root / REPORT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return report if isinstance(report, dict) else {}

    @property
    def size(self) -> int:
        """Bytes of all files that the manifest names."""
        return self.manifest.size


def is_bundle(path: Path) -> bool:
    """Whether `path` is a folder with a manifest, whatever its state: something that an export may replace."""
    return (path / FILE_NAME).is_file()


def record_files(root: Path) -> dict[str, FileRecord]:
    """Hash and size of every file below `root`, by POSIX path; the manifest itself is left out."""
    return {
        path.relative_to(root).as_posix(): FileRecord(sha256_of(path), path.stat().st_size)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path != root / FILE_NAME
    }


def _read_manifest(root: Path) -> str:
    if not root.exists():
        raise BundleError(f"{root} does not exist: name the folder that `sam-edge export --out` made")
    path = root / FILE_NAME
    if not path.is_file():
        raise BundleError(
            f"{root} is no bundle: it has no {FILE_NAME}; name the folder that `sam-edge export --out` made"
        )
    if path.stat().st_size > _LARGEST_MANIFEST:
        raise BundleError(f"{path} has {path.stat().st_size} bytes, which no manifest has: export the bundle again")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} cannot be read ({error}): export the bundle again") from error


def _check_file(root: Path, name: str, record: FileRecord, *, check_hash: bool) -> None:
    pure, windows = PurePosixPath(name), PureWindowsPath(name)
    leaves = pure.is_absolute() or windows.drive or windows.root or "\\" in name or ".." in pure.parts
    if not name or leaves or not name.isprintable():
        raise BundleError(
            f"{root}: {FILE_NAME} names {name!r:.200}, which is not a path inside the bundle: export the bundle again"
        )
    path = root / name
    if not path.is_file():
        raise BundleError(f"{root}: {name} is missing: export the bundle again")
    if not path.resolve().is_relative_to(root.resolve()):
        raise BundleError(
            f"{root}: {name} is a link that leaves the bundle: put the file itself there, or export again"
        )
    size = path.stat().st_size
    if size != record.bytes:
        raise BundleError(f"{root}: {name} has {size} bytes, {record.bytes} expected: copy or export the bundle again")
    if check_hash and (found := sha256_of(path)) != record.sha256:
        raise BundleError(
            f"{root}: {name} has SHA-256 {found[:12]!r}..., {record.sha256[:12]!r}... expected: copy or export it again"
        )
