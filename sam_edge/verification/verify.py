"""`sam-edge verify`: compare a bundle with a reference, check bounds, and write a report.

The reference is fp32 torch where torch and the bundle's own weights are available (named with --checkpoint, seeded, or
in the download cache under the manifest's hash). Elsewhere it is the bundle's `golden.npz`, which needs neither.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_edge.data.photo_files import photo_files
from sam_edge.prediction.reference_cache import ReferenceCache
from sam_edge.reporting.folders import VERIFICATION, foreign_in_verification
from sam_edge.reporting.versions import tool_versions
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import Agreement, Bounds, bounds_of
from sam_edge_runtime.backends import Backend, BackendOptions, load_backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.errors import BundleError, CheckpointError, PhotoError
from sam_edge_runtime.photo.read import read_photo
from sam_edge_runtime.system.documents import json_text
from sam_edge_runtime.system.folders import check_destination, staged_folder

from .compare import PhotoComparison, compare_photo
from .reference import INSTALL, find_weights, torch_reference
from .report import SHOWN_PHOTOS, PhotoPictures, draw_photo, search_section, write_html

if TYPE_CHECKING:
    from sam_edge.model.torch_backend import TorchBackend

    from .trace import Traced

GOLDEN_REFERENCE = "golden.npz"
TORCH_REFERENCE = "fp32 torch"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class VerifyJob:
    """The bundle, its reference and the report.

    Attributes:
        bundle: folder of the bundle.
        checkpoint: weights that the bundle was made from; None for those that its manifest records.
        images: folder of photos, or one photo; None for the pictures in golden.npz.
        out: folder of the report; None for the bundle's folder name with `-report` appended.
        threads: threads of the bundle's engine.
        provider: its execution provider.
        trace: also look for the first wrong tensor in each graph.
    """

    bundle: Path
    checkpoint: str | None = None
    images: Path | None = None
    out: Path | None = None
    threads: int | None = None
    provider: str | None = None
    trace: bool = False


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        manifest: the bundle's manifest.
        reference: `fp32 torch` or `golden.npz`.
        agreement: the figures.
        bounds: the bounds of the figures.
        missed: a line for each bound that is missed.
        photos: the comparison of each photo; empty if golden.npz was the reference.
        unreadable: photos that were left out, with reasons.
        report: folder of `report.json` and `report.html`.
        engine: name of the engine that ran the bundle.
        html: why `report.html` is missing; None if it was written.
        traced: the result of tracing each graph; empty without --trace.
    """

    manifest: Manifest
    reference: str
    agreement: Agreement
    bounds: Bounds
    missed: tuple[str, ...]
    photos: tuple[PhotoComparison, ...]
    unreadable: tuple[str, ...]
    report: Path
    engine: str
    html: str | None = None
    traced: tuple[Traced, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The content of `report.json`."""
        manifest = self.manifest
        return {
            "format": VERIFICATION,
            "bundle": {
                "variant": manifest.variant,
                "target": manifest.target,
                "precision": manifest.precision,
                "input_side": manifest.input_side,
                "frames": [list(frame) for frame in manifest.frames],
                "prompts": manifest.prompts,
                "points": manifest.points,
            },
            "weights": manifest.checkpoint.described,
            "random_weights": manifest.checkpoint.random,
            "reference": self.reference,
            "engine": self.engine,
            "bounds": asdict(self.bounds),
            "figures": self.agreement.summary(),
            "passed": not self.missed,
            "missed": list(self.missed),
            "trace": [each.to_json() for each in self.traced],
            "unreadable": list(self.unreadable),
            "skipped_prompts": sum(photo.skipped for photo in self.photos),
            "photos": [asdict(agreement) for agreement in self.agreement.photos],
            "machine": {"system": platform.system(), "processor": platform.machine()},
            "made_with": manifest.tools,
            "verified_with": tool_versions(("torch", "onnxruntime", "coremltools", "ai-edge-litert")),
        }


def verify(
    job: VerifyJob, progress: Progress = lambda what, done, total: None, known: ReferenceCache | None = None
) -> Verification:
    """Compare a bundle with its reference and write the report.

    Args:
        job: what to verify.
        progress: called with what is being done, the photos that are done, and the number of photos.
        known: torch's outputs for earlier bundles of the same command, which are reused.

    Raises:
        BundleError: the bundle is not valid, or there is no reference for it.
        CheckpointError: the named weights are not the bundle's, or there are none to trace with.
        PhotoError: no photo could be read.
        OutputError: the report cannot be written.
    """
    bundle = Bundle.open(job.bundle)
    manifest = bundle.manifest
    bounds = bounds_of(manifest)
    out = job.out if job.out is not None else _beside(job.bundle)
    # A report can be made again, so an earlier one is replaced without --overwrite.
    check_destination(out, overwrite=True, foreign=foreign_in_verification)
    source = find_weights(manifest, job.checkpoint, job.images)
    if job.trace:
        bundle.manifest.require_own_tensors("--trace")
    if job.trace and source is None:
        raise CheckpointError(
            f"--trace compares tensor by tensor with fp32 torch: it needs torch ({INSTALL}) and the weights of this "
            f"bundle ({manifest.checkpoint.source}), named with --checkpoint"
        )
    backend = load_backend(bundle, BackendOptions(threads=job.threads, provider=job.provider))
    comparisons: list[PhotoComparison] = []
    pictures: list[PhotoPictures] = []
    unreadable: list[str] = []
    traced: tuple[Traced, ...] = ()
    if source is None:
        progress("running the golden prompts", 0, 0)
        agreement = golden.check(_golden(bundle), backend, manifest)
    else:
        progress(f"loading fp32 torch, {source.label}", 0, 0)
        photos = list(_photos(job.images, bundle))
        torch_backend = torch_reference(manifest, source)
        reference = torch_backend if known is None else known.wrap(torch_backend, manifest)
        for index, (name, read, frame) in enumerate(photos):
            progress(name, index, len(photos))
            try:
                photo = read()
                comparison = compare_photo(name, photo, reference, backend, manifest, frame)
            except PhotoError as error:
                unreadable.append(f"{name}: {error}")
                continue
            if len(pictures) < SHOWN_PHOTOS:
                pictures.append(draw_photo(photo, comparison))
            comparisons.append(replace(comparison, illustrations=()))  # full-size masks are not kept
        if not comparisons:
            raise PhotoError(f"no photo in {job.images} can be used; the first: {unreadable[0]}")
        if job.trace:
            traced = _trace(bundle, backend, torch_backend, progress)
        progress("writing the report", len(photos), len(photos))
        agreement = Agreement(tuple(comparison.agreement for comparison in comparisons))
    verification = Verification(
        manifest=manifest,
        reference=GOLDEN_REFERENCE if source is None else TORCH_REFERENCE,
        agreement=agreement,
        bounds=bounds,
        missed=agreement.missed(bounds),
        photos=tuple(comparisons),
        unreadable=tuple(unreadable),
        report=out,
        engine=backend.engine,
        traced=traced,
    )
    with staged_folder(out, overwrite=True, foreign=foreign_in_verification) as folder:
        (folder / "report.json").write_text(json_text(verification.to_json()), encoding="utf-8")
        page, checks = folder / "report.html", agreement.checks(bounds)
        missing = write_html(page, verification.to_json(), checks, pictures, search_section(bundle))
    return replace(verification, html=missing)


def _trace(bundle: Bundle, backend: Backend, reference: TorchBackend, progress: Progress) -> tuple[Traced, ...]:
    from .trace import trace_bundle  # noqa: PLC0415 - brings torch

    return trace_bundle(bundle, backend, reference.sam, lambda what: progress(what, 0, 0))


def _beside(bundle: Path) -> Path:
    """The bundle's folder name with `-report` appended; `.` and links are resolved first."""
    root = bundle.resolve()
    return root.with_name(f"{root.name}-report")


def _golden(bundle: Bundle) -> golden.Golden:
    if bundle.golden_path is None:
        raise BundleError(
            f"{bundle.root} has no golden.npz and its weights are not available: name them with --checkpoint"
        )
    return golden.Golden.load(bundle.golden_path, bundle.manifest)


def _photos(
    images: Path | None, bundle: Bundle
) -> Iterator[tuple[str, Callable[[], npt.NDArray[np.uint8]], FrameSize | None]]:
    """The photos' names, functions that read them, so that only one is in memory at a time, and their frames.

    A golden picture lies in the frame that it was recorded in, a photo in the one that it fills best (None).
    """
    if images is None:
        test = _golden(bundle)
        for index, picture in enumerate(test.pictures):
            yield golden.picture_name(test, index), picture.copy, test.frames[index]
        return
    for path in photo_files(images):
        yield path.name, partial(read_photo, path), None
