"""The calls of both graphs on calibration photos, one after another.

The decoder gets real embeddings, prompts on objects that people annotated or the model proposed, and mask prompts that
the model predicted from a box. The fp32 model runs once for each photo; its outputs are stored in a temporary folder,
because quantizers of several targets, and searches, iterate over the same calls many times. One photo at a time is in
memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sam_edge.prediction.calls import decoder_call
from sam_edge_runtime.arrays import Call, Features, Float32
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import DecoderFeed, Prompts

from .photos import CalibrationPhoto, CalibrationSet
from .prompts import KINDS, ObjectPrompts, draw_prompts
from .proposals import propose_masks


@contextmanager
def calibration_calls(photos: CalibrationSet, reference: Backend, manifest: Manifest) -> Iterator[CalibrationCalls]:
    """Calls that can be iterated any number of times inside the `with` block.

    Args:
        photos: of the calibration.
        reference: the fp32 model; it must take any number of prompts and slots.
        manifest: of one frame; gives the calls' frame and names; its capacity does not matter here.
    """
    with TemporaryDirectory(prefix="sam-edge-calibration-") as folder:
        yield CalibrationCalls(photos, reference, manifest, Path(folder))


class CalibrationCalls:
    """See `calibration_calls`."""

    def __init__(self, photos: CalibrationSet, reference: Backend, manifest: Manifest, folder: Path) -> None:
        self.photos = photos
        self._reference, self._manifest, self._folder = reference, manifest, folder

    def subset(self, count: int) -> CalibrationCalls:
        """Calls on `count` of the photos, evenly spaced; on all of them if there are not more."""
        photos = self.photos.photos
        if count >= len(photos):
            return self
        places = [(2 * place + 1) * len(photos) // (2 * count) for place in range(count)]
        folder = self._folder / f"of-{count}"
        folder.mkdir(exist_ok=True)
        chosen = replace(self.photos, photos=tuple(photos[place] for place in places))
        return CalibrationCalls(chosen, self._reference, self._manifest, folder)

    def encoder(self) -> Iterator[Call]:
        """One call of the image encoder for each photo.

        Raises:
            DataError: a photo can no longer be read.
        """
        (name,) = self._manifest.encoder_contract.input_names
        for photo in self.photos.photos:
            pixels = photo.read().photo
            yield {name: self._frame(pixels.shape[0], pixels.shape[1]).image(pixels)}

    def decoder(self, capacity: Manifest) -> Iterator[Call]:
        """Calls of the mask decoder with prompts of every kind that fits it.

        A decoder of fixed shape gets full calls, in which prompts of different kinds and lengths are mixed, for each
        number of prompts that it has. A decoder with a free axis also gets calls of one kind each.

        Args:
            capacity: the bundle's manifest, whose decoder the calls must fit.

        Raises:
            DataError: a photo can no longer be read.
            BackendError: the model failed.
        """
        for index, photo in enumerate(self.photos.photos):
            prepared = self._prepared(index, photo)
            for feed in _feeds(prepared.prompts(), capacity):
                prompts = (
                    feed.point_coords,
                    feed.point_labels,
                    feed.mask_input,
                    feed.has_mask_input,
                    *(feed.text or ()),
                )
                yield decoder_call(prepared.features, prompts, capacity)

    def prompted_photos(self, capacity: Manifest) -> Iterator[PromptedPhoto]:
        """Each photo with all of its prompts that fit a decoder.

        Args:
            capacity: the bundle's manifest, whose decoder the prompts must fit.
        """
        for index, photo in enumerate(self.photos.photos):
            prepared = self._prepared(index, photo)
            prompts = tuple(_by_mask(_fitting(prepared.prompts(), capacity)))
            yield PromptedPhoto(prepared.frame.image(photo.read().photo), prompts)

    def _frame(self, height: int, width: int) -> Frame:
        return Frame(self._manifest.frame, (height, width), self._manifest.conventions)

    def _prepared(self, index: int, photo: CalibrationPhoto) -> _PreparedPhoto:
        """A photo's features and prompts: from the folder, or computed and stored there."""
        path = self._folder / f"{index}.npz"
        if not path.exists():
            self._prepare(photo).save(path)
        return _PreparedPhoto.load(path, self._manifest)

    def _prepare(self, photo: CalibrationPhoto) -> _PreparedPhoto:
        annotated = photo.read()
        frame = self._frame(*annotated.size)
        features = self._reference.encode(frame.image(annotated.photo))
        if not annotated.rles:
            annotated = replace(annotated, rles=propose_masks(self._reference, self._manifest, features, frame))
        objects = draw_prompts(annotated, photo.seed)
        boxes = objects.prompts(frame, KINDS["box"])
        low_res, iou, _ = decode_prompts(self._reference, self._manifest.of_any_capacity(), features, boxes)
        best = low_res[np.arange(len(low_res)), iou.argmax(axis=1)]
        return _PreparedPhoto(frame, features, objects, best[:, None])


@dataclass(frozen=True, eq=False)
class PromptedPhoto:
    """A photo and prompts on it.

    Attributes:
        image: `(1, 3, H, W)`, the photo in its frame.
        prompts: groups of prompts, each of which is decoded together.
    """

    image: Float32
    prompts: tuple[Prompts, ...]


@dataclass(frozen=True, eq=False)
class _PreparedPhoto:
    """A photo's features, and prompts on its objects."""

    frame: Frame
    features: Features
    objects: ObjectPrompts
    masks: Float32  # (OBJECTS, 1, H/4, W/4)

    def prompts(self) -> list[Prompts]:
        """Prompts of every kind that the model knows, in the order of `KINDS`."""
        masks = self.frame.conventions.mask_prompts
        kinds = [kind for kind in KINDS.values() if masks or not kind.mask]
        return [self.objects.prompts(self.frame, kind, self.masks) for kind in kinds]

    def save(self, path: Path) -> None:
        arrays: dict[str, Any] = {f"feature_{number}": each for number, each in enumerate(self.features)}
        np.savez(
            path,
            size=np.array(self.frame.original_size),
            clicks=self.objects.clicks,
            boxes=self.objects.boxes,
            masks=self.masks,
            **arrays,
        )

    @classmethod
    def load(cls, path: Path, manifest: Manifest) -> _PreparedPhoto:
        with np.load(path, allow_pickle=False) as stored:
            height, width = stored["size"].tolist()
            objects = ObjectPrompts(stored["clicks"], stored["boxes"])
            frame = Frame(manifest.frame, (height, width), manifest.conventions)
            features = tuple(stored[f"feature_{number}"] for number in range(1 + len(manifest.conventions.features)))
            return cls(frame, features, objects, stored["masks"])


def _feeds(kinds: list[Prompts], capacity: Manifest) -> Iterator[DecoderFeed]:
    for batch in _batches(kinds, capacity):
        if not capacity.call_sizes:
            yield from batch.feeds((), capacity.points)
        for size in capacity.call_sizes:
            yield from _filled(batch, size).feeds((size,), capacity.points)


def _batches(kinds: list[Prompts], capacity: Manifest) -> Iterator[Prompts]:
    """The prompts that fit: for a decoder with a free axis each kind alone, and always those of `_by_mask`."""
    fitting = _fitting(kinds, capacity)
    if capacity.prompts is None or capacity.points is None:
        yield from fitting
    yield from _by_mask(fitting)


def _fitting(kinds: list[Prompts], capacity: Manifest) -> list[Prompts]:
    return [kind for kind in kinds if capacity.points is None or kind.coords.shape[1] <= capacity.points]


def _by_mask(kinds: list[Prompts]) -> Iterator[Prompts]:
    """All prompts without a mask prompt in one batch, then all with one."""
    for masked in (False, True):
        if alike := [kind for kind in kinds if (kind.masks is not None) is masked]:
            yield Prompts.joined(alike)


def _filled(prompts: Prompts, size: int) -> Prompts:
    """The prompts repeated from the start until they fill calls of `size`."""
    rows = np.arange(-(-len(prompts) // size) * size) % len(prompts)
    masks = None if prompts.masks is None else prompts.masks[rows]
    return Prompts(prompts.coords[rows], prompts.labels[rows], masks, prompts.frame)
