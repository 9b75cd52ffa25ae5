"""A bundle in a zip file, unpacked to a temporary folder.

The manifest is read first. Only the files that it names are unpacked, each with exactly the size that it names, so that
neither a path nor a size in the archive is trusted. The folder is removed when the process exits.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from sam_edge_runtime.errors import BundleError
from sam_edge_runtime.system.files import require_space

from .document import FILE_NAME, LARGEST_MANIFEST, check_file_name
from .manifest import Manifest

_ENCRYPTED = 0x1  # APPNOTE.TXT 4.4.4: bit 0 of the general purpose flags
_CHUNK = 1 << 20


def is_archive(path: Path) -> bool:
    """Whether `path` is a zip file."""
    try:
        return path.is_file() and zipfile.is_zipfile(path)
    except OSError:
        return False


def unpack(path: Path) -> Path:
    """Unpack the bundle in a zip file, which lies at its top or in one folder.

    Returns:
        The folder with the bundle's files; `Bundle.open` has yet to check them.

    Raises:
        BundleError: the archive has no bundle, is damaged or encrypted, or its files have other sizes than the manifest
            names.
        OutputError: there is no space for the files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _unpack(path, archive)
    except (BundleError, OSError):
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise BundleError(
            f"{path} is a damaged zip file ({str(error) or type(error).__name__}): copy it again, or unpack it yourself"
        ) from error


def _unpack(path: Path, archive: zipfile.ZipFile) -> Path:
    entries = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}
    manifests = [PurePosixPath(name) for name in entries if PurePosixPath(name).name == FILE_NAME]
    tops = [place.parent for place in manifests if len(place.parts) <= 2]
    if len(tops) != 1:
        raise BundleError(f"{path} holds {len(tops)} bundles at its top: zip the folder of one bundle")
    content = _read(path, archive, entries[str(tops[0] / FILE_NAME)], LARGEST_MANIFEST)
    manifest = Manifest.from_json(content.decode("utf-8-sig"))
    require_space(Path(tempfile.gettempdir()), sum(record.bytes for record in manifest.files.values()))
    folder = Path(tempfile.mkdtemp(prefix="sam-edge-bundle-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / FILE_NAME).write_bytes(content)
    for name, record in manifest.files.items():
        check_file_name(path, name)
        entry = entries.get(str(tops[0] / name))
        if entry is None:
            continue  # `Bundle.open` knows whether it is needed
        if entry.file_size != record.bytes:
            raise BundleError(f"{path}: {name} has {entry.file_size} bytes, {record.bytes} expected: copy it again")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _refuse_encrypted(path, entry)
        left = record.bytes
        with archive.open(entry) as stream, target.open("wb") as file:
            while left and (piece := stream.read(min(_CHUNK, left))):  # a header may lie about the size
                file.write(piece)
                left -= len(piece)
    return folder


def _read(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    _refuse_encrypted(path, entry)
    with archive.open(entry) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise BundleError(f"{path}: {FILE_NAME} is larger than any manifest: export the bundle again")
    return content


def _refuse_encrypted(path: Path, entry: zipfile.ZipInfo) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise BundleError(f"{path} is encrypted: unpack it yourself and name the folder")
