"""Bundles run by the Python runtime, for pages that leave the work to the server.

Each bundle has one thread, in which its engine encodes and decodes. So the server answers other requests meanwhile, and
an engine never has two callers. Masks are run-length encoded without their pixels (`MaskStatistics`), which gives the
runs of `SamPredictor`'s masks in a fraction of the time. That interpolates bilinearly; masks of bundles whose
convention is bicubic are made at the photo's size first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from sam_edge_runtime.arrays import Features, Float32, Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.mask_statistics import MaskStatistics
from sam_edge_runtime.automatic.regions import bounding_box, xywh
from sam_edge_runtime.automatic.settings import COCO_RLE, AutomaticSettings
from sam_edge_runtime.backends import BackendOptions, BundleBackend, load_backend
from sam_edge_runtime.bundle.contract import MASK_THRESHOLD
from sam_edge_runtime.bundle.vocabulary import Vocabulary
from sam_edge_runtime.decoding import (
    decode_prompts,
    limited,
    require_finite_features,
    require_finite_masks,
    select_masks,
)
from sam_edge_runtime.photo.frame import Frame, fitting_frame
from sam_edge_runtime.photo.masks import upscale_binary
from sam_edge_runtime.prompts import build_prompts

from .api_error import ApiError
from .bodies import encoded_logits
from .hosted_bundle import HostedBundle

MOST_WAITING = 32  # requests for one bundle
MOST_PHOTOS = 8
MOST_PHOTO_BYTES = 1 << 30  # of all photos' pixels together; one photo may have more

T = TypeVar("T")


@dataclass(frozen=True)
class Prompt:
    """One prompt in pixels of the upright photo.

    Attributes:
        points: x, y and label (1 inside, 0 outside) of each click.
        box: x0, y0, x1, y1, or None.
        mask_input: (h/4, w/4) logits of an earlier mask, or None.
        text: a word of the bundle's vocabulary, or None.
    """

    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask_input: Float32 | None = None
    text: str | None = None


@dataclass(frozen=True, eq=False)
class EncodedPhoto:
    """A photo in memory, with what one bundle's encoder made of it.

    Attributes:
        id: names it in addresses.
        engine: that encoded it.
        pixels: (H, W, 3) uint8 RGB.
        frame: how it lies in the bundle's frame.
        features: of the encoder.
        seconds: that encoding took.
    """

    id: str
    engine: BundleEngine
    pixels: Photo
    frame: Frame
    features: Features
    seconds: float


class BundleEngine:
    """The engine of one bundle, loaded by its first photo.

    Args:
        hosted: the bundle.
        options: threads of the engine.
    """

    def __init__(self, hosted: HostedBundle, options: BackendOptions) -> None:
        self.hosted, self.options = hosted, options
        self._thread = ThreadPoolExecutor(1, f"sam-edge-{hosted.name}")
        self._waiting = 0
        self._loaded: BundleBackend | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in the engine's thread.

        Raises:
            ApiError: too many requests wait already.
        """
        if self._waiting >= MOST_WAITING:
            raise ApiError(503, "busy", f"{MOST_WAITING} requests wait for the bundle {self.hosted.title} already")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread after what it computes now."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def backend(self) -> BundleBackend:
        """The loaded engine; only for `work` of `run`.

        Raises:
            BackendError: it is not installed, or rejects the bundle.
        """
        if self._loaded is None:
            self._loaded = load_backend(self.hosted.bundle, self.options)
        return self._loaded

    def encode(self, pixels: Photo, name: str) -> EncodedPhoto:
        """Encode a photo (H, W, 3) uint8 RGB; `name` is its id.

        Raises:
            PhotoError: it is too narrow for the frame.
            BackendError: the engine failed.
        """
        start = perf_counter()
        frame = fitting_frame(self.hosted.bundle.manifest, (pixels.shape[0], pixels.shape[1]))
        features = self.backend.encode(frame.image(pixels))
        require_finite_features(features)
        return EncodedPhoto(name, self, pixels, frame, features, perf_counter() - start)

    def masks(self, photo: EncodedPhoto, prompts: Sequence[Prompt], *, multimask: bool, low_res: bool) -> Any:
        """The masks for prompts, as they stand in an answer.

        Args:
            photo: that the prompts refer to.
            prompts: one or more.
            multimask: three masks for each prompt instead of one.
            low_res: whether the answer has the low-resolution logits, too.

        Raises:
            PromptError: a prompt lies outside the photo, exceeds the decoder's capacity, or has a word that the bundle
                does not know.
            BackendError: the engine failed.
        """
        return [self._answer(photo, prompt, multimask=multimask, low_res=low_res) for prompt in prompts]

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return self.hosted.bundle.vocabulary()

    def _answer(self, photo: EncodedPhoto, prompt: Prompt, *, multimask: bool, low_res: bool) -> dict[str, Any]:
        manifest = self.hosted.bundle.manifest
        coords = np.array([[point[:2] for point in prompt.points]]) if prompt.points else None
        labels = np.array([[point[2] for point in prompt.points]]) if prompt.points else None
        box = None if prompt.box is None else np.array([prompt.box])
        mask = None if prompt.mask_input is None else prompt.mask_input[None, None]
        text = None if prompt.text is None else self._vocabulary.embed([prompt.text])
        slots = build_prompts(photo.frame, coords, labels, box, mask, text=text)
        decoded = decode_prompts(self.backend, manifest, photo.features, slots)
        require_finite_masks(decoded)
        logits, scores = select_masks(decoded, manifest.conventions, multimask=multimask)
        height, width = photo.frame.original_size
        masks = []
        for each, score in zip(logits[0], scores[0], strict=True):
            lengths = _run_lengths(each, photo.frame)
            masks.append(
                {
                    "segmentation": {"size": [height, width], "counts": rle.compress(lengths)},
                    "predicted_iou": float(score),
                    "area": int(lengths[1::2].sum()),
                    "bbox": xywh(bounding_box(lengths, height)),
                    **({"low_res": encoded_logits(limited(each, manifest.conventions))} if low_res else {}),
                }
            )
        score_of_object = decoded.object_score(0)
        return {"masks": masks, "object_score": None if score_of_object is None else float(score_of_object[0])}

    def everything(self, photo: EncodedPhoto, settings: dict[str, Any]) -> list[dict[str, Any]]:
        """All masks of a photo, as `AutomaticMaskGenerator` gives them with COCO's RLEs.

        Raises:
            UsageError: an unknown setting, or one out of range.
            BackendError: the engine failed.
        """
        manifest = self.hosted.bundle.manifest
        chosen = AutomaticSettings.for_variant(manifest.variant, **settings, output_mode=COCO_RLE)
        return AutomaticMaskGenerator.from_backend(self.backend, manifest, chosen).generate(photo.pixels)


def _run_lengths(low_res: Float32, frame: Frame) -> rle.Counts:
    """The run lengths of the mask that `SamPredictor` makes of low-resolution logits (h, w)."""
    if frame.conventions.bicubic_masks:
        return rle.run_lengths(upscale_binary(low_res[None], frame)[0])
    return MaskStatistics(frame).run_lengths(low_res, MASK_THRESHOLD)


class PhotoMemory:
    """The encoded photos that are kept: the least recently used goes first. For the event loop only.

    Args:
        most: photos.
        most_bytes: of their pixels together; the newest photo stays whatever its size.
    """

    def __init__(self, most: int = MOST_PHOTOS, most_bytes: int = MOST_PHOTO_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._photos: OrderedDict[str, EncodedPhoto] = OrderedDict()

    def __len__(self) -> int:
        return len(self._photos)

    def find(self, name: str) -> EncodedPhoto | None:
        """A photo by its id, which counts as a use; None if it is not kept."""
        photo = self._photos.get(name)
        if photo is not None:
            self._photos.move_to_end(name)
        return photo

    def add(self, photo: EncodedPhoto) -> None:
        """Keep a photo, and let others go where there are too many."""
        self._photos[photo.id] = photo
        self._photos.move_to_end(photo.id)
        while len(self._photos) > 1 and (
            len(self._photos) > self._most
            or sum(each.pixels.nbytes for each in self._photos.values()) > self._most_bytes
        ):
            self._photos.popitem(last=False)

    def remove(self, name: str) -> None:
        """Forget a photo, if it is kept."""
        self._photos.pop(name, None)
