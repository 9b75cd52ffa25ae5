"""Masks for prompts on one photo, with the face of `segment_anything.SamPredictor`.

Arguments, shapes and meaning are those of segment_anything 1.0 (predictor.py), numpy in and numpy out; a user of it
changes one import. Added are `predict_batch` for many prompts in one go, and checks: what the reference would
answer with nonsense (a point off the photo, NaN, a box turned inside out) is refused with a line that says why. One
difference is meant: a photo that cannot be set leaves the earlier one in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Float32
from .backends import Backend, BackendOptions, load_backend
from .bundle.bundle import Bundle
from .bundle.contract import MASK_OUTPUTS, Label
from .decoding import decode_prompts
from .errors import PhotoError, PromptError, StateError, UsageError
from .photo.frame import Frame
from .photo.masks import upscale, upscale_binary
from .prompts import Prompts, build_prompts

Masks = npt.NDArray[np.bool_] | Float32

_IMAGE_FORMATS = ("RGB", "BGR")
_BATCH_LABELS = (int(Label.BACKGROUND), int(Label.FOREGROUND), int(Label.PADDING), int(Label.EMPTY))


@dataclass(frozen=True)
class _SetImage:
    """The photo that prompts are answered on."""

    frame: Frame
    embeddings: Float32  # (1, C, S/16, S/16)


class SamPredictor:
    """Encodes a photo once and answers prompts on it.

    Args:
        bundle: an opened bundle, or the path of one.
        threads: threads within an operator; None is one a core.
        provider: which accelerator the engine uses, for instance "cuda" or "coreml"; None is the CPU.
        backend: an engine of your own instead of the one that the bundle's target names.

    Raises:
        BundleError: the path holds no sound bundle.
        BackendError: the engine is missing or does not know the provider.
        UsageError: `threads` is not positive, or `threads` or `provider` came beside `backend`.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        threads: int | None = None,
        provider: str | None = None,
        backend: Backend | None = None,
    ) -> None:
        if backend is not None and (threads is not None or provider is not None):
            raise UsageError("threads and provider have no effect on a given backend; set them where it is made")
        options = BackendOptions(threads=threads, provider=provider)
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.backend = backend if backend is not None else load_backend(self.bundle, options)
        self._current: _SetImage | None = None

    @property
    def is_image_set(self) -> bool:
        """Whether `predict` can be called."""
        return self._current is not None

    @property
    def original_size(self) -> tuple[int, int]:
        """(H, W) of the photo that is set. Raises StateError when none is."""
        return self._image("original_size").frame.original_size

    @property
    def input_size(self) -> tuple[int, int]:
        """(h, w) of the photo inside the frame. Raises StateError when none is set."""
        return self._image("input_size").frame.resized_size

    @property
    def frame(self) -> Frame:
        """How the photo that is set lies in the frame. Raises StateError when none is."""
        return self._image("frame").frame

    def _image(self, wanted: str) -> _SetImage:
        if self._current is None:
            raise StateError(f"no image is set; call set_image(photo) before {wanted}")
        return self._current

    def set_image(self, image: npt.NDArray[np.uint8], image_format: str = "RGB") -> None:
        """Encode a photo for the prompts to come.

        Args:
            image: (H, W, 3) uint8, values 0..255.
            image_format: order of the channels, "RGB" or "BGR".

        Raises:
            PhotoError: `image` is not such an array, is empty, or far too narrow. The photo set before stays.
            UsageError: `image_format` is neither.
            BackendError: the engine failed.
        """
        if image_format not in _IMAGE_FORMATS:
            raise UsageError(f"image_format {image_format!r} is not one of {', '.join(_IMAGE_FORMATS)}")
        check_image(image)
        height, width = image.shape[:2]
        frame = Frame(self.bundle.manifest.input_side, (height, width))
        rgb = image if image_format == "RGB" else image[:, :, ::-1]
        self._current = _SetImage(frame, self.backend.encode(frame.image(rgb)))

    def reset_image(self) -> None:
        """Forget the photo."""
        self._current = None

    def get_image_embedding(self) -> Float32:
        """A copy of the photo's embedding, (1, C, S/16, S/16) float32. Raises StateError when no photo is set."""
        return self._image("get_image_embedding").embeddings.copy()

    def predict(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Masks, Float32, Float32]:
        """Answer one prompt.

        Args:
            point_coords: (N, 2) x, y in pixels of the photo.
            point_labels: (N) 1 inside the object, 0 outside it.
            box: (4,) x0, y0, x1, y1 in pixels of the photo.
            mask_input: (1, S/4, S/4) logits, the third result of an earlier call.
            multimask_output: three masks (whole, part, subpart) for a prompt that may mean several things, or one.
            return_logits: masks as float32 logits, not thresholded.

        Returns:
            Masks (C, H, W) bool, or float32 logits; the model's own estimate of each mask's IoU (C) float32;
            low-resolution logits (C, S/4, S/4) float32. C is 3 with `multimask_output`, else 1.

        Raises:
            StateError: no photo is set.
            PromptError: a prompt that the model cannot take; the message says which and why.
            BackendError: the engine failed.
        """
        image = self._image("predict")
        prompts = build_prompts(
            image.frame,
            _one(point_coords, "point_coords"),
            _one(point_labels, "point_labels"),
            _one_box(box),
            _one(mask_input, "mask_input"),
        )
        masks, scores, low_res = self._answer(image, prompts, multimask_output, return_logits)
        return masks[0], scores[0], low_res[0]

    def predict_batch(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        boxes: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Masks, Float32, Float32]:
        """Answer many prompts on the photo, in as few calls of the decoder as its capacity allows.

        Prompts of different lengths become one array by labels of -2 in the unused places, which change nothing.

        Args:
            point_coords: (B, N, 2) x, y in pixels of the photo.
            point_labels: (B, N) 1 inside, 0 outside, -2 unused, -1 the reference's own "not a point".
            boxes: (B, 4) x0, y0, x1, y1 in pixels of the photo.
            mask_input: (B, 1, S/4, S/4) logits.
            multimask_output: three masks for each prompt, or one.
            return_logits: masks as float32 logits, not thresholded.

        Returns:
            Masks (B, C, H, W), scores (B, C) and low-resolution logits (B, C, S/4, S/4), as `predict` gives them.

        Raises:
            StateError: no photo is set.
            PromptError: a prompt that the model cannot take; the message says which and why.
            BackendError: the engine failed.
        """
        image = self._image("predict_batch")
        prompts = build_prompts(
            image.frame, point_coords, point_labels, boxes, mask_input, labels_allowed=_BATCH_LABELS
        )
        return self._answer(image, prompts, multimask_output, return_logits)

    def _answer(
        self, image: _SetImage, prompts: Prompts, multimask_output: bool, return_logits: bool
    ) -> tuple[Masks, Float32, Float32]:
        """Run the decoder over all prompts and bring the chosen masks to the photo's size."""
        chosen = slice(1, MASK_OUTPUTS) if multimask_output else slice(0, 1)
        all_low_res, all_scores = decode_prompts(self.backend, self.bundle.manifest, image.embeddings, prompts)
        low_res, scores = np.ascontiguousarray(all_low_res[:, chosen]), np.ascontiguousarray(all_scores[:, chosen])
        flat = low_res.reshape(-1, *low_res.shape[2:])  # (B * C, S/4, S/4)
        masks: Masks = upscale(flat, image.frame) if return_logits else upscale_binary(flat, image.frame)
        return masks.reshape(*low_res.shape[:2], *image.frame.original_size), scores, low_res


def check_image(image: object) -> None:
    """Refuse what is no photo.

    Raises:
        PhotoError: `image` is no uint8 array (H, W, 3).
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = (
            f"a {image.dtype} array of shape {image.shape}"
            if isinstance(image, np.ndarray)
            else f"a value of type {type(image).__name__}"
        )
        raise PhotoError(f"the image is {what}; give a uint8 array (H, W, 3), as read_photo returns it")


def _one_box(box: npt.ArrayLike | None) -> npt.NDArray[Any] | None:
    """A box as a batch of one; the reference takes it as (4,) and as (1, 4)."""
    batch = _one(box, "box")
    return batch[0] if batch is not None and batch.ndim == 3 and batch.shape[1] == 1 else batch


def _one(values: npt.ArrayLike | None, name: str) -> npt.NDArray[Any] | None:
    """`values` of one prompt as a batch of one."""
    if values is None:
        return None
    try:
        return np.asarray(values)[None]
    except ValueError:
        raise PromptError(f"{name} has rows of different lengths; make it one rectangular array") from None
