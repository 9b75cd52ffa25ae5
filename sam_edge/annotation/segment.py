"""`sam-edge segment`: all masks of a photo, or of each photo in a folder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam_edge.data.pairs import DRAWN
from sam_edge.data.photo_files import photo_files
from sam_edge.prediction.naming import NAME, SCORE, Namer
from sam_edge.prediction.promptable import SHIPPED_WORDS, opened
from sam_edge_runtime.arrays import Mask, Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.errors import OutputError, PhotoError
from sam_edge_runtime.photo.draw import draw_all_masks, draw_names, middle_of
from sam_edge_runtime.photo.frame import waste_warning
from sam_edge_runtime.photo.read import read_photo
from sam_edge_runtime.photo.write import jpeg_bytes
from sam_edge_runtime.system.files import check_file, write_files

from .named import ClipNamer, RankJob
from .record import record_bytes, result_names, sa1b_record

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SegmentJob:
    """The photos, the model and the output.

    Attributes:
        source: a photo, or a folder of photos; subfolders are not searched.
        bundle: folder of the bundle to run; None for the torch model.
        model: variant of the torch model.
        checkpoint: its weights; None for those that come with sam-edge or were downloaded.
        settings: of the mask generator, by the names of `AutomaticSettings`; others have values that suit the model.
        out: folder for the results.
        picture: also write a picture of the masks on the photo.
        threads: threads of a bundle's engine; None for its default.
        provider: execution provider of ONNX Runtime; None for the CPU.
        overwrite: replace results of an earlier run.
        rank: words that the masks are ranked by; None: none.
        names: also name the masks, by the words that the model or bundle knows.

    Raises:
        UsageError: a setting out of range.
    """

    source: Path
    bundle: Path | None = None
    model: str = "nano"
    checkpoint: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    out: Path = Path("out")
    picture: bool = True
    threads: int | None = None
    provider: str | None = None
    overwrite: bool = False
    rank: RankJob | None = None
    names: bool = False

    def __post_init__(self) -> None:
        AutomaticSettings.for_variant(self.model, **self.settings)  # refused before anything is read


@dataclass(frozen=True)
class Segmented:
    """The result for one photo: its files and the number of masks, or why it was left out; and a warning, if any.

    Where masks are ranked by words, `named` are those that show one: the word, its score and the mask's box.
    """

    photo: Path
    files: tuple[Path, ...] = ()
    masks: int = 0
    failure: str | None = None
    warning: str | None = None
    named: tuple[tuple[str, float, tuple[float, ...]], ...] = ()


def segment(job: SegmentJob, progress: Progress = lambda what, done, total: None) -> Iterator[Segmented]:
    """Find the masks of photo after photo. Each photo's results are written before the next is searched.

    Raises:
        PhotoError: a single photo cannot be read, or no photo of a folder can.
        UsageError: nothing is at `source`, or a folder holds no photo.
        OutputError: a result exists already, would replace a photo, or cannot be written.
        CheckpointError, BundleError, BackendError: the model cannot be loaded, or what ranks its masks.
    """
    photos = photo_files(job.source)
    names = result_names(photos)
    inputs = {path.resolve() for path in photos}
    for path in photos:
        for file in _files(job, names[path]):
            if file.resolve() in inputs:
                raise OutputError(f"{file} would replace a photo: choose another --out")
            check_file(file, overwrite=job.overwrite)
    progress("loading the model", 0, len(photos))
    words = SHIPPED_WORDS if job.names else None
    subject = opened(job.bundle, job.model, job.checkpoint, job.threads, job.provider, words)
    namer = Namer(subject) if job.names else None
    generator = subject.mask_generator(job.settings)
    ranker = None if job.rank is None else ClipNamer(job.rank)

    read: deque[tuple[Path, Photo]] = deque()
    failures: deque[Segmented] = deque()

    def good_photos() -> Iterator[Photo]:
        for path in photos:
            try:
                photo = read_photo(path)
                generator.check(photo)
            except PhotoError as error:
                if len(photos) == 1:
                    raise
                failures.append(Segmented(path, failure=str(error)))
                continue
            read.append((path, photo))
            yield photo

    done = 0
    for number, found in enumerate(generator.generate_many(good_photos())):
        path, photo = read.popleft()
        masks = found
        for each in (ranker, namer):
            masks = masks if each is None else each.named(photo, masks)
        named = [mask for mask in masks if NAME in mask]
        record = sa1b_record(path.stem, path.name, (photo.shape[0], photo.shape[1]), masks, number)
        files = _files(job, names[path])
        contents = [record_bytes(record)]
        if job.picture:
            contents.append(jpeg_bytes(_drawn(photo, masks if ranker is None else named)))
        write_files(dict(zip(files, contents, strict=True)), overwrite=job.overwrite)
        done += 1
        progress(path.name, done + len(failures), len(photos))
        warning = waste_warning(subject.capacity, photo.shape[:2])
        if ranker is not None and ranker.notes:
            warning = ranker.notes[0]
        shown = tuple((mask[NAME], mask[SCORE], tuple(mask["bbox"])) for mask in named)
        yield Segmented(path, files, len(masks), warning=warning, named=shown)
    if not done:
        raise PhotoError(f"none of the {len(photos)} photos in {job.source} can be read: {failures[0].failure}")
    yield from failures


def _files(job: SegmentJob, name: str) -> tuple[Path, ...]:
    record, picture = job.out / f"{name}.json", job.out / f"{name}{DRAWN}.jpg"
    return (record, picture) if job.picture else (record,)


def _drawn(photo: Photo, masks: list[dict[str, Any]]) -> Photo:
    """The photo with its masks, small ones over large ones."""
    largest_first = sorted(masks, key=lambda mask: -mask["area"])
    labels: list[tuple[str, tuple[float, float]]] = []

    def decoded() -> Iterator[Mask]:
        for mask in largest_first:
            inside = rle.decode(mask["segmentation"])
            if NAME in mask and (place := middle_of(inside)) is not None:
                labels.append((mask[NAME], place))
            yield inside

    return draw_names(draw_all_masks(photo, decoded()), labels)
