"""The calls of both graphs on the photos of a calibration, one after another.

What a decoder is shown are real embeddings, prompts that mean things in the photo, drawn by people or found by the
model, and mask prompts that the model itself gave in answer to a box. What is the model's own comes
from the fp32 model, once for each photo, and wait in a folder on the disk for the next pass: quantizers of several
targets, and searches, go over the same calls again and again. In memory there is one photo at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sam_edge.prediction.calls import Call
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import DecoderFeed, Prompts

from .photos import CalibrationPhoto, CalibrationSet
from .prompts import KINDS, Things, things_in
from .proposals import found_masks


@contextmanager
def calibration_calls(photos: CalibrationSet, reference: Backend, manifest: Manifest) -> Iterator[CalibrationCalls]:
    """Calls that can be gone over as often as need be while the block lasts.

    Args:
        photos: what to show.
        reference: the fp32 model; it must take any number of prompts and slots.
        manifest: whose input side and names the calls have; its capacity does not matter here.
    """
    with TemporaryDirectory(prefix="sam-edge-calibration-") as folder:
        yield CalibrationCalls(photos, reference, manifest, Path(folder))


class CalibrationCalls:
    """See `calibration_calls`."""

    def __init__(self, photos: CalibrationSet, reference: Backend, manifest: Manifest, folder: Path) -> None:
        self.photos = photos
        self._reference, self._manifest, self._folder = reference, manifest, folder

    def of_fewer(self, count: int) -> CalibrationCalls:
        """The same on `count` of the photos, evenly spaced; on all where there are not so many."""
        chosen = self.photos.photos
        if count >= len(chosen):
            return self
        places = [(2 * place + 1) * len(chosen) // (2 * count) for place in range(count)]
        folder = self._folder / f"of-{count}"
        folder.mkdir(exist_ok=True)
        fewer = replace(self.photos, photos=tuple(chosen[place] for place in places))
        return CalibrationCalls(fewer, self._reference, self._manifest, folder)

    def encoder(self) -> Iterator[Call]:
        """One call of the image encoder for each photo.

        Raises:
            DataError: a photo cannot be read any more.
        """
        (name,) = self._manifest.encoder_contract.input_names
        for photo in self.photos.photos:
            pixels = photo.read().photo
            yield {name: self._frame(pixels.shape[0], pixels.shape[1]).image(pixels)}

    def decoder(self, capacity: Manifest) -> Iterator[Call]:
        """Calls of the mask decoder with prompts of every kind that fits it.

        A decoder of fixed shape gets calls filled with prompts of different kinds and lengths, in each number of
        prompts that it has. Where it takes any number of either, each kind comes by itself as well.

        Args:
            capacity: what the calls have to fit; a bundle's manifest.

        Raises:
            DataError: a photo cannot be read any more.
            BackendError: the model failed.
        """
        names = capacity.decoder_contract.input_names
        for index, photo in enumerate(self.photos.photos):
            asked = self._asked(index, photo)
            for feed in _feeds(asked.prompts(), capacity):
                prompts = (feed.point_coords, feed.point_labels, feed.mask_input, feed.has_mask_input)
                yield dict(zip(names, (asked.embeddings, *prompts), strict=True))

    def questions(self, capacity: Manifest) -> Iterator[Question]:
        """Each photo with all prompts on it that fit a decoder.

        Args:
            capacity: what the prompts have to fit; a bundle's manifest.
        """
        for index, photo in enumerate(self.photos.photos):
            asked = self._asked(index, photo)
            prompts = tuple(_together(_fitting(asked.prompts(), capacity)))
            yield Question(asked.frame.image(photo.read().photo), prompts)

    def _frame(self, height: int, width: int) -> Frame:
        return Frame(self._manifest.input_side, (height, width))

    def _asked(self, index: int, photo: CalibrationPhoto) -> _Asked:
        """What is asked of a photo: from the folder, or from the model and into the folder."""
        path = self._folder / f"{index}.npz"
        if not path.exists():
            self._ask(photo).save(path)
        return _Asked.load(path, self._manifest.input_side)

    def _ask(self, photo: CalibrationPhoto) -> _Asked:
        annotated = photo.read()
        frame = self._frame(*annotated.size)
        embeddings = self._reference.encode(frame.image(annotated.photo))
        if not annotated.rles:
            annotated = replace(annotated, rles=found_masks(self._reference, self._manifest, embeddings, frame))
        things = things_in(annotated, photo.seed)
        boxes = things.prompts(frame, KINDS["box"])
        low_res, iou = decode_prompts(self._reference, self._manifest.of_any_capacity(), embeddings, boxes)
        best = low_res[np.arange(len(low_res)), iou.argmax(axis=1)]
        return _Asked(frame, embeddings, things, best[:, None])


@dataclass(frozen=True, eq=False)
class Question:
    """A photo's frame `(1, 3, S, S)`, and prompts on it, those that can be asked together in one."""

    image: Float32
    prompts: tuple[Prompts, ...]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A photo's embeddings `(1, C, S/16, S/16)`, and what is asked on them."""

    frame: Frame
    embeddings: Float32
    things: Things
    masks: Float32  # (THINGS, 1, S/4, S/4)

    def prompts(self) -> list[Prompts]:
        """Prompts of every kind, in the order of `KINDS`."""
        return [self.things.prompts(self.frame, kind, self.masks) for kind in KINDS.values()]

    def save(self, path: Path) -> None:
        np.savez(
            path,
            size=np.array(self.frame.original_size),
            embeddings=self.embeddings,
            clicks=self.things.clicks,
            boxes=self.things.boxes,
            masks=self.masks,
        )

    @classmethod
    def load(cls, path: Path, side: int) -> _Asked:
        with np.load(path, allow_pickle=False) as stored:
            height, width = stored["size"].tolist()
            things = Things(stored["clicks"], stored["boxes"])
            return cls(Frame(side, (height, width)), stored["embeddings"], things, stored["masks"])


def _feeds(kinds: list[Prompts], capacity: Manifest) -> Iterator[DecoderFeed]:
    for batch in _batches(kinds, capacity):
        if not capacity.call_sizes:
            yield from batch.feeds((), capacity.points)
        for size in capacity.call_sizes:
            yield from _filled(batch, size).feeds((size,), capacity.points)


def _batches(kinds: list[Prompts], capacity: Manifest) -> Iterator[Prompts]:
    """The prompts that fit, to be asked together: those with a mask and those without, and each kind by itself."""
    fitting = _fitting(kinds, capacity)
    if capacity.prompts is None or capacity.points is None:
        yield from fitting
    yield from _together(fitting)


def _fitting(kinds: list[Prompts], capacity: Manifest) -> list[Prompts]:
    return [kind for kind in kinds if capacity.points is None or kind.coords.shape[1] <= capacity.points]


def _together(kinds: list[Prompts]) -> Iterator[Prompts]:
    """Those without a mask, and those with one."""
    for masked in (False, True):
        yield Prompts.joined([kind for kind in kinds if (kind.masks is not None) is masked])


def _filled(prompts: Prompts, size: int) -> Prompts:
    """As many prompts as fill calls of `size`, the first ones over again if need be."""
    rows = np.arange(-(-len(prompts) // size) * size) % len(prompts)
    masks = None if prompts.masks is None else prompts.masks[rows]
    return Prompts(prompts.coords[rows], prompts.labels[rows], masks, prompts.side)
