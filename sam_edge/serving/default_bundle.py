"""nano's bundle for those who name none: exported once into the cache, found there from then on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import sam_edge
from sam_edge.weights.cache import cache_folder
from sam_edge.weights.catalogue import SHIPPED
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.errors import BundleError, UsageError, missing_package
from sam_edge_runtime.system.files import sha256_of

VARIANT = "nano"
STAGES = 6  # that an export announces, for a progress bar
Progress = Callable[[str, int, int], None]


def default_bundle(progress: Progress) -> Path:
    """The folder of nano's ONNX bundle in fp32.

    Args:
        progress: called with the stage, its number and the number of stages while the bundle is made.

    Raises:
        UsageError: it is not there yet, and the packages that make it are not installed.
        ExportError: it could not be made.
        OutputError: the cache cannot be written.
    """
    weights = sha256_of(SHIPPED[VARIANT].path)[:12]
    place = cache_folder() / "bundles" / f"{sam_edge.__version__}-{weights}" / VARIANT
    try:
        Bundle.open(place)
    except BundleError:
        shutil.rmtree(place, ignore_errors=True)  # a damaged one, in sam-edge's own cache
        _export(place, progress)
    return place


def _export(place: Path, progress: Progress) -> None:
    try:
        from sam_edge.export.job import ExportJob  # noqa: PLC0415  # brings torch
        from sam_edge.export.pipeline import export_bundle  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"without a bundle one of {VARIANT} is made, which needs {missing_package(error)}: "
            "pip install 'sam-edge[export]', or name a bundle"
        ) from error
    done = 0

    def announce(stage: str) -> None:
        nonlocal done
        progress(f"making {VARIANT}'s bundle: {stage}", done, STAGES)
        done += 1

    export_bundle(ExportJob(VARIANT, place), announce)
