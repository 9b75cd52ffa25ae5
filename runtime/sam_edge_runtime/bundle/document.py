"""The document of a manifest: its format, its digest, and checks of what stands in it.

`manifest` makes the object of it. The checks raise `BundleError` with the place in the document.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sam_edge_runtime.errors import BundleError, UsageError

from .contract import FrameSize, GraphContract, Layout, frame_is_supported
from .conventions import Conventions
from .fields import Fields
from .official import INTERFACES, SAM_EDGE
from .targets import target_named

FORMAT = "sam-edge-bundle"
# 5 with text, 4 with conventions of later families, 3 with SAM-HQ's or SAM 2's conventions, 2 with frames and SAM 1's
# conventions, 1 without frames: older releases read those bundles.
FORMAT_VERSION = 5
FILE_NAME = "manifest.json"
LARGEST_MANIFEST = 4 << 20  # bytes; real ones have a few thousand
MOST_FRAMES = 16


def check_file_name(root: Path, name: str) -> None:
    """Refuse a name that is no path inside the bundle.

    Args:
        root: the bundle, for the message.
        name: a key of `files`.

    Raises:
        BundleError: an absolute path, one with a drive, a backslash or `..`, or an unprintable name.
    """
    pure, windows = PurePosixPath(name), PureWindowsPath(name)
    leaves = pure.is_absolute() or windows.drive or windows.root or "\\" in name or ".." in pure.parts
    if not name or leaves or not name.isprintable():
        raise BundleError(
            f"{root}: {FILE_NAME} names {name!r:.200}, which is not a path inside the bundle: export the bundle again"
        )


def read_document(text: str) -> dict[str, Any]:
    """The JSON object in `text`; its format version is one that this release reads."""
    try:
        document = json.loads(text)
    except ValueError as error:  # also for a number of more digits than Python reads
        raise BundleError(f"{FILE_NAME} is not JSON ({error}): export the bundle again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BundleError(f"{FILE_NAME} does not say format {FORMAT!r}: this is no sam-edge bundle")
    version = document.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(
            f"{FILE_NAME} has format_version {version!r:.60}: an integer is expected; export the bundle again"
        )
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{FILE_NAME} has format_version {version}, and this sam-edge reads up to {FORMAT_VERSION}: "
            "upgrade sam-edge"
        )
    return document


def version_for(*, frames: bool, conventions: Conventions) -> int:
    """The oldest version that describes a bundle.

    Args:
        frames: whether it has other frames than the square.
        conventions: of its model's family.
    """
    return max(conventions.format_version, 2 if frames else 1)


def digest_of(body: dict[str, Any]) -> str:
    """SHA-256 of a document without its digest, in canonical form: keys sorted, no spaces, ASCII."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def check_tensors(section: str, declared: dict[str, Any], contract: GraphContract) -> None:
    """Compare names, shapes and dtypes with the contract; meanings are prose and may differ."""
    for role, specs in (("inputs", contract.inputs), ("outputs", contract.outputs)):
        want = [{"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype} for spec in specs]
        tensors = declared.get(role)
        if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
            raise BundleError(f"{FILE_NAME}: {section}.{role} is not a list of tensors: export the bundle again")
        have = [{key: tensor.get(key) for key in ("name", "shape", "dtype")} for tensor in tensors]
        if have != want:
            different = next((tensor for tensor, spec in zip(have, want, strict=False) if tensor != spec), have)
            raise BundleError(
                f"{FILE_NAME}: {section}.{role} breaks the contract at {different!s:.200}: export the bundle again"
            )


def target_of(top: Fields) -> str:
    """The target's name, a key of `TARGETS`."""
    try:
        return target_named(top.text("target")).name
    except UsageError as error:
        raise BundleError(f"{FILE_NAME}: {error}: export the bundle again") from error


def layout_of(top: Fields) -> Layout:
    """The layout; bundles of the first release do not name it and are NCHW."""
    name = top.optional_text("layout") or Layout.NCHW.value
    if name not in {layout.value for layout in Layout}:
        raise BundleError(f"{FILE_NAME}: layout {name!r:.60} is unknown: export the bundle again")
    return Layout(name)


def frames_of(top: Fields, side: int) -> tuple[FrameSize, ...]:
    """The sizes of the frames; bundles that have only the square do not name it."""
    frames = tuple(
        FrameSize(each.integer("height"), each.integer("width")) for each in top.sections("frames", MOST_FRAMES)
    )
    if wrong := [frame for frame in frames if not frame_is_supported(frame, side)]:
        raise BundleError(
            f"{FILE_NAME}: frame {wrong[0].name} is impossible for input_side {side}: export the bundle again"
        )
    if len(set(frames)) < len(frames):
        raise BundleError(f"{FILE_NAME}: a frame is named twice: export the bundle again")
    return frames


def interface_of(top: Fields) -> str:
    """Names and shapes of the tensors; only bundles of another layout than sam-edge's own name it."""
    name = top.optional_text("interface") or SAM_EDGE
    if name not in INTERFACES:
        raise BundleError(f"{FILE_NAME}: interface {name!r:.60} is unknown: upgrade sam-edge, or export again")
    return name
