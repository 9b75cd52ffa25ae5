"""`sam-edge verify`: find the best reference there is, compare, judge by the bounds, and leave a report.

The reference is fp32 torch where torch and the very weights of the bundle are at hand (named with --checkpoint,
seeded, or in the download cache under the manifest's hash). Elsewhere it is the bundle's `golden.npz`, which needs
neither.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge.weights.source import CheckpointSource, parse_source, recorded_source
from sam_edge_runtime import golden
from sam_edge_runtime.agreement import Agreement, Bounds, bounds_for
from sam_edge_runtime.backends import Backend, BackendOptions, load_backend
from sam_edge_runtime.bundle import Bundle
from sam_edge_runtime.errors import BundleError, CheckpointError, PhotoError, UsageError
from sam_edge_runtime.files import sha256_of, staged_folder
from sam_edge_runtime.manifest import Manifest
from sam_edge_runtime.photo import read_photo

from .compare import PhotoComparison, compare_photo
from .report import SHOWN_PHOTOS, PhotoPictures, draw_photo, write_html

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
REPORT_MARK = "sam-edge-verification"
GOLDEN_REFERENCE = "golden.npz"
TORCH_REFERENCE = "fp32 torch"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class VerifyJob:
    """What to verify.

    Attributes:
        bundle: folder of the bundle.
        checkpoint: the weights the bundle was made from; None to look for them.
        images: folder of photos, or one photo; None for the golden pictures.
        out: folder of the report; None for the bundle's own name with `-report` added.
        threads: threads of the bundle's engine.
        provider: its execution provider.
    """

    bundle: Path
    checkpoint: str | None = None
    images: Path | None = None
    out: Path | None = None
    threads: int | None = None
    provider: str | None = None


@dataclass(frozen=True)
class Verification:
    """What came of it.

    Attributes:
        manifest: the bundle's.
        reference: `fp32 torch` or `golden.npz`.
        agreement: the figures.
        bounds: what they have to reach.
        missed: one line for each bound that does not hold.
        photos: one for each photo; empty when the golden answers were the reference.
        unreadable: photos that were left out, and why.
        report: the folder that holds `report.json` and `report.html`.
        html: why `report.html` is missing, or None if it is there.
    """

    manifest: Manifest
    reference: str
    agreement: Agreement
    bounds: Bounds
    missed: tuple[str, ...]
    photos: tuple[PhotoComparison, ...]
    unreadable: tuple[str, ...]
    report: Path
    html: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of `report.json`."""
        manifest = self.manifest
        return {
            "format": REPORT_MARK,
            "bundle": {
                "variant": manifest.variant,
                "target": manifest.target,
                "precision": manifest.precision,
                "input_side": manifest.input_side,
                "prompts": manifest.prompts,
                "points": manifest.points,
            },
            "weights": manifest.checkpoint.described,
            "reference": self.reference,
            "bounds": asdict(self.bounds),
            "figures": self.agreement.summary(),
            "passed": not self.missed,
            "missed": list(self.missed),
            "unreadable": list(self.unreadable),
            "skipped_prompts": sum(photo.skipped for photo in self.photos),
            "photos": [
                {**asdict(agreement), **_seconds(index, self.photos)}
                for index, agreement in enumerate(self.agreement.photos)
            ],
            "machine": {"system": platform.system(), "processor": platform.machine()},
            "tools": manifest.tools,
        }


def verify(job: VerifyJob, progress: Progress = lambda what, done, total: None) -> Verification:
    """Compare a bundle with its reference and write the report.

    Args:
        job: what to verify.
        progress: told what is being done, how many photos are done, and how many there are.

    Raises:
        BundleError: no sound bundle, or one without a reference.
        CheckpointError: the named weights are not the bundle's.
        PhotoError: no photo could be read.
        OutputError: the report cannot be written.
    """
    bundle = Bundle.open(job.bundle)
    manifest = bundle.manifest
    bounds = bounds_for(manifest.target, manifest.precision)
    engine = load_backend(bundle, BackendOptions(threads=job.threads, provider=job.provider))
    source = _find_weights(manifest, job.checkpoint)
    comparisons: list[PhotoComparison] = []
    pictures: list[PhotoPictures] = []
    unreadable: list[str] = []
    if source is None:
        if job.images is not None:
            raise CheckpointError(
                f"photos are compared with fp32 torch, and the weights of this bundle ({manifest.checkpoint.source}) "
                "are not at hand: name them with --checkpoint, or leave --images out to use golden.npz"
            )
        progress("asking the golden prompts", 0, 0)
        agreement = golden.check(_golden(bundle), engine, manifest)
    else:
        progress(f"loading fp32 torch, {source.label}", 0, 0)
        reference = _torch_reference(manifest, source)
        photos = list(_photos(job.images, bundle))
        for index, (name, read) in enumerate(photos):
            progress(name, index, len(photos))
            try:
                photo = read()
            except PhotoError as error:
                unreadable.append(str(error))
                continue
            comparison = compare_photo(name, photo, reference, engine, manifest)
            if len(pictures) < SHOWN_PHOTOS:
                pictures.append(draw_photo(photo, comparison))
            comparisons.append(replace(comparison, illustrations=()))  # full-size masks are not kept
        if not comparisons:
            raise PhotoError(f"no photo in {job.images} could be read; the first: {unreadable[0]}")
        progress("writing the report", len(photos), len(photos))
        agreement = Agreement(tuple(comparison.agreement for comparison in comparisons))
    out = job.out if job.out is not None else job.bundle.parent / f"{job.bundle.resolve().name}-report"
    verification = Verification(
        manifest=manifest,
        reference=GOLDEN_REFERENCE if source is None else TORCH_REFERENCE,
        agreement=agreement,
        bounds=bounds,
        missed=agreement.missed(bounds),
        photos=tuple(comparisons),
        unreadable=tuple(unreadable),
        report=out,
    )
    # A report is made from what is at hand and can be made again, so an earlier one of ours gives way unasked.
    with staged_folder(out, overwrite=True, replaceable=_is_report) as folder:
        (folder / "report.json").write_text(json.dumps(verification.to_json(), indent=2) + "\n", encoding="utf-8")
        missing = write_html(folder / "report.html", verification.to_json(), pictures)
    return replace(verification, html=missing)


def _find_weights(manifest: Manifest, checkpoint: str | None) -> CheckpointSource | None:
    """The bundle's very weights: those named, seeded ones, or the download with the manifest's hash."""
    if find_spec("torch") is None:
        if checkpoint is not None:
            raise CheckpointError("--checkpoint needs torch: pip install 'sam-edge[export]'")
        return None
    if checkpoint is not None:
        source = parse_source(checkpoint)
        _check_same_weights(manifest, source)
        return source
    return recorded_source(manifest.checkpoint)


def _check_same_weights(manifest: Manifest, source: CheckpointSource) -> None:
    made_from = manifest.checkpoint
    if source.is_random or made_from.random:
        same = source.is_random and made_from.random and source.label == made_from.source
    else:
        same = source.path is None or not source.path.is_file() or sha256_of(source.path) == made_from.sha256
    if not same:
        raise CheckpointError(
            f"{source.label} is not what the bundle was made from ({made_from.source}): name those weights"
        )


def _torch_reference(manifest: Manifest, source: CheckpointSource) -> Backend:
    from sam_edge.load import load_sam  # noqa: PLC0415  # brings torch
    from sam_edge.torch_backend import TorchBackend  # noqa: PLC0415

    return TorchBackend(load_sam(manifest.variant, source, manifest.input_side).sam)


def _golden(bundle: Bundle) -> golden.Golden:
    if bundle.golden_path is None:
        raise BundleError(f"{bundle.root} has no golden.npz and its weights are not at hand: name --checkpoint")
    return golden.Golden.load(bundle.golden_path, bundle.manifest)


def _photos(images: Path | None, bundle: Bundle) -> Iterator[tuple[str, Callable[[], npt.NDArray[np.uint8]]]]:
    """Names, and functions that read the photos one at a time."""
    if images is None:
        for index, picture in enumerate(_golden(bundle).pictures):
            yield f"golden picture {index + 1}", picture.copy
        return
    for path in photo_paths(images):
        yield path.name, partial(read_photo, path)


def photo_paths(images: Path) -> list[Path]:
    """The photos in a folder, by name, or the one file that was named.

    Raises:
        UsageError: the folder is missing or holds no photo.
    """
    if images.is_file():
        return [images]
    if not images.is_dir():
        raise UsageError(f"{images} does not exist: name a folder of photos, or one photo")
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise UsageError(f"no photos in {images}: files ending in {', '.join(PHOTO_SUFFIXES)} are taken")
    return paths


def _seconds(index: int, photos: tuple[PhotoComparison, ...]) -> dict[str, Any]:
    if index >= len(photos):
        return {}
    reference, bundle = photos[index].seconds
    return {"seconds_reference": reference, "seconds_bundle": bundle}


def _is_report(folder: Path) -> bool:
    """Whether `folder` holds an earlier report of ours."""
    try:
        document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == REPORT_MARK
