"""A bundle is a folder with the two graphs, their manifest, and their acceptance test (`golden.npz`).

Everything is checked before a graph is loaded: every field of the manifest, that every path stays inside the folder,
and that every file has the size and hash that the manifest names. Hashing takes about a second per gigabyte.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sam_edge_runtime.errors import BundleError
from sam_edge_runtime.system.files import sha256_of
from sam_edge_runtime.system.folders import others_than, recover

from .manifest import FILE_NAME, FileRecord, Manifest

GOLDEN_FILE = "golden.npz"
REPORT_FILE = "report.json"
_LARGEST_MANIFEST = 4 << 20  # bytes; real ones have a few thousand


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        root: its folder.
        manifest: what it contains.
    """

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path, *, check_hashes: bool = True) -> Bundle:
        """Read and check the bundle in folder `path`.

        Args:
            path: folder that `sam-edge export --out` made.
            check_hashes: whether to hash every file. False suits an app that verified the bundle when it was
                installed; sizes and paths are checked in any case.

        Raises:
            BundleError: the folder is no bundle, of a newer format, incomplete or edited, or one of its paths leaves
                the folder.
        """
        root = Path(path)
        recover(root)  # an export that was killed while it replaced the bundle
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
        """The image encoder: a file, or a folder for Core ML."""
        return self.root / self.manifest.encoder

    @property
    def decoder_path(self) -> Path:
        """The mask decoder: a file, or a folder for Core ML."""
        return self.root / self.manifest.decoder

    @property
    def golden_path(self) -> Path | None:
        """The acceptance test `golden.npz`; None where the bundle has none."""
        return self.root / GOLDEN_FILE if GOLDEN_FILE in self.manifest.files else None

    def report(self) -> dict[str, Any]:
        """The measurements that export made (`report.json`); empty where there is no readable report."""
        try:
            report = json.loads((self.root / REPORT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return report if isinstance(report, dict) else {}

    @property
    def size(self) -> int:
        """Bytes of all files of the bundle except the manifest."""
        return self.manifest.size


def foreign_files(path: Path) -> tuple[str, ...] | None:
    """What an export would destroy if it replaced a folder: files that no export wrote, or that changed since.

    Returns:
        Their POSIX paths in the folder, empty for a bundle as it was exported; None where it is no bundle at all.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        manifest = Manifest.from_json(_read_manifest(path))
    except BundleError:
        return None
    others = others_than(path, lambda name: name == FILE_NAME or name in manifest.files)
    return others + tuple(name for name, record in manifest.files.items() if _has_changed(path / name, record))


def _has_changed(path: Path, record: FileRecord) -> bool:
    """Whether a file is there and is another than the recorded one."""
    if not path.is_file():
        return False
    return path.stat().st_size != record.bytes or sha256_of(path) != record.sha256


def record_files(root: Path) -> dict[str, FileRecord]:
    """Hash and size of every file below `root` except the manifest, by POSIX path."""
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
        raise BundleError(f"{path} has {path.stat().st_size} bytes, more than any manifest: export the bundle again")
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
