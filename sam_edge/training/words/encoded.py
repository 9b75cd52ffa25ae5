"""Photos as the frozen encoder sees them, with the region of each name: made once, and stored.

Training then costs no encoder. Embeddings are float16, half a megabyte a view at 512 pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sam_edge.data.mask_names import MaskNames
from sam_edge.data.sample import Sample
from sam_edge.data.skips import BrokenRecordError, Skip, SkipLog
from sam_edge.data.sources import Source
from sam_edge.data.stream import read_sample
from sam_edge.model.torch_backend import TorchBackend
from sam_edge_runtime.arrays import Mask, Photo
from sam_edge_runtime.bundle.contract import MASK_STRIDE, FrameSize
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.system.documents import read_npz
from sam_edge_runtime.system.files import write_file

WHOLE, MIRRORED = 0, 1  # views; those behind are random crops
CROP = (0.45, 0.85)  # least and largest share of a photo's sides that a crop keeps
SMALLEST_REGION = 128  # of a crop: a name counts if a cell of its region is covered to half (of 255)
_LARGEST = 1 << 26  # bytes of a stored view


@dataclass(frozen=True, eq=False)
class EncodedView:
    """One view of a photo.

    Attributes:
        embedding: `(C, H/16, W/16)` float16.
        names: K names.
        regions: `(K, H/4, W/4)` uint8: how much of each cell the masks of a name cover, 0..255.
        size: (h, w) of the photo in the frame; the rest is padding.
    """

    embedding: npt.NDArray[np.float16]
    names: tuple[str, ...]
    regions: npt.NDArray[np.uint8]
    size: tuple[int, int]


def regions_of(sample: Sample, names: Sequence[str | None]) -> dict[str, Mask]:
    """The union of the masks of each name, `(H, W)`."""
    regions: dict[str, Mask] = {}
    for mask, name in zip(sample.masks(), names, strict=True):
        if name is not None:
            regions[name] = regions[name] | mask if name in regions else mask.copy()
    return regions


def view_of(photo: Photo, regions: Mapping[str, Mask], view: int, seed: int) -> tuple[Photo, dict[str, Mask]]:
    """A photo and its regions as they are, mirrored, or cropped at random and mirrored half of the time.

    Args:
        photo: `(H, W, 3)`.
        regions: of each name, `(H, W)`.
        view: `WHOLE`, `MIRRORED`, or the number of a crop.
        seed: of the crop.
    """
    rows, columns = slice(None), slice(None)
    mirror = view == MIRRORED
    if view > MIRRORED:
        draw = np.random.default_rng([seed, view])
        height, width = photo.shape[:2]
        share = draw.uniform(*CROP)
        h, w = int(height * share), int(width * share)
        y, x = int(draw.integers(0, height - h + 1)), int(draw.integers(0, width - w + 1))
        rows, columns, mirror = slice(y, y + h), slice(x, x + w), bool(draw.random() < 0.5)
    order = slice(None, None, -1) if mirror else slice(None)
    return (
        np.ascontiguousarray(photo[rows, columns][:, order]),
        {name: np.ascontiguousarray(mask[rows, columns][:, order]) for name, mask in regions.items()},
    )


def encode_view(backend: TorchBackend, photo: Photo, regions: Mapping[str, Mask]) -> EncodedView:
    """Encode a view in the square frame."""
    frame = Frame(FrameSize.square(backend.sam.side), photo.shape[:2])
    embedding = backend.encode(frame.image(photo))[0][0]
    low = {name: _low_resolution(mask, frame) for name, mask in regions.items()}
    low = {name: region for name, region in low.items() if region.max() >= SMALLEST_REGION}
    rows, columns = frame.size.cells
    stacked = np.array(list(low.values()), np.uint8).reshape(-1, rows, columns)
    return EncodedView(embedding.astype(np.float16), tuple(low), stacked, frame.resized_size)


def _low_resolution(mask: Mask, frame: Frame) -> npt.NDArray[np.uint8]:
    """How much of each low-resolution pixel of the frame a mask of the photo covers, 0..255."""
    h, w = frame.resized_size
    resized = Image.fromarray(mask.astype(np.uint8) * 255).resize((w, h), Image.Resampling.BILINEAR)
    full = np.zeros(frame.size, np.uint8)
    full[:h, :w] = np.asarray(resized)
    rows, columns = frame.size.cells
    mean: npt.NDArray[np.uint8] = full.reshape(rows, MASK_STRIDE, columns, MASK_STRIDE).mean((1, 3)).astype(np.uint8)
    return mean


class EncodedSet:
    """All views of some sources, encoded on first use and stored in a folder.

    Attributes:
        files: of the views; photos in the order of the sources, all views of a photo one after another.
        source_of: index of the source of each view.
        record_of: number of its record within the source, likewise.
    """

    def __init__(
        self, folder: Path, backend: TorchBackend, sources: Sequence[Source], views: Sequence[int], seed: int
    ) -> None:
        """Nothing is encoded yet.

        Args:
            folder: for the stored views.
            backend: the frozen model.
            sources: with names of their masks.
            views: of each photo: one number for all sources, or one for each.
            seed: of random crops.
        """
        self._backend, self._sources, self._views, self._seed = backend, tuple(sources), tuple(views), seed
        self._folder = folder
        self.files: list[Path] = []
        self.source_of: list[int] = []
        self.record_of: list[int] = []

    def prepare(self, names: MaskNames, skips: SkipLog, progress: Callable[[int, int], None]) -> None:
        """Encode what is not stored yet.

        Args:
            names: of the masks.
            skips: counts broken records.
            progress: called with the photos that are done, and their number.

        Raises:
            DataError: too many records are broken, or names do not fit.
            OutputError: a view cannot be written.
        """
        total, done = sum(map(len, self._sources)), 0
        for place, source in enumerate(self._sources):
            for number in range(len(source)):
                paths = [
                    self._folder / f"{place}_{number:06d}_{view}.npz"
                    for view in range(self._views[place % len(self._views)])
                ]
                missing = [view for view, path in enumerate(paths) if not path.is_file()]
                try:
                    if missing:
                        self._encode(source, number, missing, paths, names)
                except BrokenRecordError as error:
                    skips.add(1, [Skip(*source.record_name(number), str(error))])
                else:
                    skips.add(1, [])
                    self.files += paths
                    self.source_of += [place] * len(paths)
                    self.record_of += [number] * len(paths)
                done += 1
                progress(done, total)

    def _encode(
        self, source: Source, number: int, missing: Sequence[int], paths: Sequence[Path], names: MaskNames
    ) -> None:
        sample = read_sample(source.read(number), annotated=True)
        regions = regions_of(sample, names.of(sample))
        for view in missing:
            encoded = encode_view(self._backend, *view_of(sample.photo, regions, view, self._seed + number))
            write_file(paths[view], _bytes(encoded), overwrite=True)

    def select(self, keep: Sequence[bool]) -> EncodedSet:
        """The views for which `keep` is true."""
        chosen = copy(self)
        chosen.files = list(compress(self.files, keep))
        chosen.source_of = list(compress(self.source_of, keep))
        chosen.record_of = list(compress(self.record_of, keep))
        return chosen

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[EncodedView]:
        return map(read_view, self.files)

    def __getitem__(self, index: int) -> EncodedView:
        return read_view(self.files[index])


def _bytes(view: EncodedView) -> bytes:
    stream = io.BytesIO()
    np.savez(
        stream,
        embedding=view.embedding,
        names=np.array(view.names, np.str_),
        regions=view.regions,
        size=np.array(view.size, np.int64),
    )
    return stream.getvalue()


def read_view(path: Path) -> EncodedView:
    """A stored view.

    Raises:
        OSError: the file cannot be read.
        KeyError, ValueError: it is no stored view.
    """
    stored = read_npz(path, _LARGEST)
    height, width = stored["size"].tolist()
    return EncodedView(stored["embedding"], tuple(map(str, stored["names"])), stored["regions"], (height, width))


def embeddings_of(views: Sequence[EncodedView]) -> torch.Tensor:
    """Embeddings `(K, C, h, w)` float32."""
    return torch.from_numpy(np.stack([view.embedding for view in views])).float()
