"""A bundle is a folder with the two graphs, their manifest, and their acceptance test (`golden.npz`).

Everything is checked before a graph is loaded: every field of the manifest, that every path stays inside the folder,
and that every file of a graph has the size and hash that the manifest names. Hashing takes about a second per gigabyte.

Bundles travel. The files of Hugging Face's cache are links to its `blobs/` folder, which a checked hash makes safe.
`golden.npz` and `report.json` are not needed to predict: without them, or with an edited one, a bundle opens all the
same, and they are checked when they are used. A bundle may also lie in a zip file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_edge_runtime.errors import BundleError
from sam_edge_runtime.system.documents import parse_json
from sam_edge_runtime.system.files import sha256_of
from sam_edge_runtime.system.folders import others_than, recover

from .archive import is_archive, unpack
from .document import FILE_NAME, LARGEST_MANIFEST, check_file_name
from .manifest import FileRecord, Manifest
from .vocabulary import Vocabulary

GOLDEN_FILE = "golden.npz"
REPORT_FILE = "report.json"
SEARCH_PLOT = "search.png"  # time and loss of the configurations that a search tried
_NOT_NEEDED = frozenset({GOLDEN_FILE, REPORT_FILE, SEARCH_PLOT})  # for a prediction


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
        """Read and check the bundle in the folder or zip file `path`.

        Args:
            path: folder that `sam-edge export --out` made, or a zip file of it.
            check_hashes: whether to hash every file. False suits an app that verified the bundle when it was
                installed; sizes and paths are checked in any case.

        Raises:
            BundleError: the folder is no bundle, of a newer format, incomplete or edited, or one of its paths leaves
                the folder.
        """
        root = Path(path)
        recover(root)  # an export that was killed while it replaced the bundle
        try:
            if is_archive(root):
                root = unpack(root)
            manifest = Manifest.from_json(_read_manifest(root))
            for name, record in manifest.files.items():
                check_file_name(root, name)
                if name not in _NOT_NEEDED:
                    _check_file(root, name, record, check_hash=check_hashes)
            for each in manifest.each_frame():
                _check_graph(root, each.encoder, manifest)
                _check_graph(root, each.decoder, manifest)
            for name in () if manifest.text is None else manifest.text.files:
                _check_graph(root, name, manifest)
        except OSError as error:
            raise BundleError(
                f"{error.filename or root} cannot be read ({error.strerror or error}): check the folder's name and "
                "permissions, or export the bundle again"
            ) from error
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
        """The acceptance test `golden.npz`; None where the bundle has none.

        Raises:
            BundleError: it was changed after the export.
        """
        record = self.manifest.files.get(GOLDEN_FILE)
        if record is None or not (self.root / GOLDEN_FILE).is_file():
            return None
        _check_file(self.root, GOLDEN_FILE, record, check_hash=True)
        return self.root / GOLDEN_FILE

    def report(self) -> dict[str, Any]:
        """The measurements that export made (`report.json`); empty where there is none, or an edited one.

        Line ends that a version control system or an editor changed (CRLF) do not count as an edit.
        """
        record = self.manifest.files.get(REPORT_FILE)
        path = self.root / REPORT_FILE
        try:
            if record is None or not path.is_file() or path.stat().st_size > 2 * record.bytes:
                return {}
            content = path.read_bytes()
            if record.sha256 not in {_sha256(content), _sha256(content.replace(b"\r\n", b"\n"))}:
                return {}
            report = parse_json(content)
        except (OSError, ValueError):
            return {}
        return report if isinstance(report, dict) else {}

    def vocabulary(self) -> Vocabulary:
        """The words that the bundle knows, read from its files.

        Raises:
            PromptError: it has no vocabulary.
            BundleError: the vocabulary is damaged.
        """
        return Vocabulary.of_bundle(self.root, self.manifest.text)

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
    if not _stays_inside(root, path) and not _is_in_hub_cache(root, path):
        raise BundleError(f"{root}: {FILE_NAME} is a link that leaves the bundle: put the file itself there")
    if path.stat().st_size > LARGEST_MANIFEST:
        raise BundleError(f"{path} has {path.stat().st_size} bytes, more than any manifest: export the bundle again")
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} cannot be read ({error}): export the bundle again") from error


def _check_file(root: Path, name: str, record: FileRecord, *, check_hash: bool) -> None:
    path = root / name
    if not path.is_file():
        raise BundleError(f"{root}: {name} is missing: export the bundle again")
    if not check_hash and not _stays_inside(root, path) and not _is_in_hub_cache(root, path):
        raise BundleError(
            f"{root}: {name} is a link that leaves the bundle, which is safe only when its hash is checked: put the "
            "file itself there, or export again"
        )
    size = path.stat().st_size
    if size != record.bytes:
        raise BundleError(f"{root}: {name} has {size} bytes, {record.bytes} expected: copy or export the bundle again")
    if check_hash and (found := sha256_of(path)) != record.sha256:
        raise BundleError(
            f"{root}: {name} has SHA-256 {found[:12]!r}..., {record.sha256[:12]!r}... expected: copy or export it again"
        )


def _check_graph(root: Path, name: str, manifest: Manifest) -> None:
    """Refuse a graph that the manifest has no hash of, or whose folder holds a file that the manifest does not name."""
    if name in manifest.files:
        return
    if not any(file.startswith(f"{name}/") for file in manifest.files):
        raise BundleError(f"{root}: {FILE_NAME} names the graph {name!r} but not its hash: export again")
    unnamed = others_than(root / name, lambda file: f"{name}/{file}" in manifest.files)
    if unnamed:
        raise BundleError(
            f"{root}: {name} holds {unnamed[0]!r}, which {FILE_NAME} does not name: remove it, or export again"
        )


def _stays_inside(root: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _is_in_hub_cache(root: Path, path: Path) -> bool:
    """Whether a link leads where Hugging Face's cache has its files: `blobs/` beside the `snapshots/` of `root`.

    https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    place = root.absolute()
    repository = next((parent.parent for parent in place.parents if parent.name == "snapshots"), None)
    return repository is not None and path.resolve().parent == (repository / "blobs").resolve()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
