"""`SamPredictor`: masks for prompts on one photo, with the interface of `segment_anything.SamPredictor`.

Arguments, shapes and results are those of segment_anything 1.0 (predictor.py), with numpy arrays; a user of it changes
one import. There are three differences: `predict_batch` takes many prompts at once. Invalid prompts (a point outside
the photo, NaN, a box without area) raise an error instead of returning meaningless masks. A photo that cannot be set
leaves the previous one in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Features, Float32
from .backends import Backend, BackendOptions, load_backend
from .backends.text_tower import TextTower
from .bundle.bundle import Bundle
from .bundle.contract import Label, encoder_contract
from .bundle.text import TextReader
from .bundle.vocabulary import Vocabulary
from .decoding import decode_prompts, limited, require_finite_features, require_finite_masks, select_masks
from .drop_in import DropIn
from .errors import PromptError, StateError, UsageError
from .photo.check import check_image, describe_array
from .photo.frame import Frame, fitting_frame
from .photo.masks import upscale, upscale_binary
from .prompts import Prompts, build_prompts

Masks = npt.NDArray[np.bool_] | Float32
Text = str | Float32

_IMAGE_FORMATS = ("RGB", "BGR")
_BATCH_LABELS = (int(Label.BACKGROUND), int(Label.FOREGROUND), int(Label.PADDING), int(Label.EMPTY))


@dataclass(frozen=True)
class _SetImage:
    """The photo that is set: its geometry and its features."""

    frame: Frame
    features: Features


class SamPredictor(DropIn):
    """Encodes a photo once and answers any number of prompts on it.

        predictor = SamPredictor("bundle")
        predictor.set_image(read_photo("photo.jpg"))
        masks, scores, low_res = predictor.predict(point_coords=[[500, 375]], point_labels=[1])

    In shapes, B is the number of prompts, N the points of a prompt, M the masks of a prompt, H and W the photo's size
    and h and w that of its frame in pixels. Coordinates are x, y in pixels of the photo. A bundle with several frames
    takes each photo in the one that it fills best.

    Args:
        bundle: an opened bundle, or the path of its folder.
        threads: threads within an operator; None: one for each core.
        provider: the engine's accelerator, such as "cuda" or "coreml"; None: the CPU, or any unit for Core ML.
        backend: an engine to use instead of the one for the bundle's target.

    Attributes:
        bundle: the opened bundle.
        backend: the engine that runs its graphs.

    Raises:
        BundleError: the path is no sound bundle.
        BackendError: the engine is not installed or does not have the provider.
        UsageError: `threads` is not positive, or `threads` or `provider` is given together with `backend`.
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
        self._object_scores: Float32 | None = None

    @property
    def is_image_set(self) -> bool:
        """Whether a photo is set, so that `predict` can be called."""
        return self._current is not None

    @property
    def original_size(self) -> tuple[int, int]:
        """(H, W) of the photo in pixels.

        Raises:
            StateError: no photo is set.
        """
        return self._image("original_size").frame.original_size

    @property
    def input_size(self) -> tuple[int, int]:
        """(h, w) in pixels of the photo resized into the frame, without padding.

        Raises:
            StateError: no photo is set.
        """
        return self._image("input_size").frame.resized_size

    @property
    def frame(self) -> Frame:
        """Geometry of the photo in the frame.

        Raises:
            StateError: no photo is set.
        """
        return self._image("frame").frame

    def _image(self, wanted: str) -> _SetImage:
        if self._current is None:
            raise StateError(f"no image is set; call set_image(photo) before {wanted}")
        return self._current

    def set_image(self, image: npt.NDArray[np.uint8], image_format: str = "RGB") -> None:
        """Encode a photo; later prompts refer to it.

        After an error the previous photo is still set.

        Args:
            image: `(H, W, 3)` uint8, 0..255.
            image_format: order of the channels, "RGB" or "BGR".

        Raises:
            PhotoError: `image` is no such array, is empty, or so narrow that its shorter side would vanish in the
                frame.
            UsageError: `image_format` is neither.
            BackendError: the engine failed.
        """
        if image_format not in _IMAGE_FORMATS:
            raise UsageError(f"image_format {image_format!r} is not one of {', '.join(_IMAGE_FORMATS)}")
        check_image(image)
        height, width = image.shape[:2]
        frame = fitting_frame(self.bundle.manifest, (height, width))
        rgb = image if image_format == "RGB" else image[:, :, ::-1]
        features = self.backend.encode(frame.image(rgb))
        require_finite_features(features)
        self._current = _SetImage(frame, features)

    @property
    def object_scores(self) -> Float32 | None:
        """`(B, 1)` logits of the last `predict` or `predict_batch`, above 0 where the prompt has an object.

        None before it, and for models without object scores.
        """
        return self._object_scores

    def reset_image(self) -> None:
        """Forget the photo."""
        self._current = None

    def get_image_embedding(self) -> Float32:
        """A copy of the photo's embeddings, `(1, C, h/16, w/16)` float32.

        Raises:
            StateError: no photo is set.
        """
        return self._image("get_image_embedding").features[0].copy()

    def get_image_features(self) -> Features:
        """Copies of all that the encoder made of the photo: the embeddings, then the family's further features.

        Raises:
            StateError: no photo is set.
        """
        return tuple(each.copy() for each in self._image("get_image_features").features)

    @property
    def features(self) -> Float32 | None:
        """What `get_image_embedding` returns, or None when no photo is set."""
        return None if self._current is None else self.get_image_embedding()

    def set_image_embedding(self, embedding: Float32, original_size: tuple[int, int]) -> None:
        """Set a photo by an embedding that `get_image_embedding` returned, without encoding it again.

        After an error the previous photo is still set.

        Args:
            embedding: `(1, C, h/16, w/16)` float32, made by the same model at the same input size.
            original_size: (H, W) of the photo in pixels.

        Raises:
            UsageError: as `set_image_features`; or the model needs further features.
            PhotoError: a photo of that size is empty, or so narrow that its shorter side would vanish in the frame.
        """
        self.set_image_features((embedding,), original_size)

    def set_image_features(self, features: Features, original_size: tuple[int, int]) -> None:
        """Set a photo by what `get_image_features` returned, without encoding it again.

        After an error the previous photo is still set.

        Args:
            features: float32, made by the same model at the same input size.
            original_size: (H, W) of the photo in pixels.

        Raises:
            UsageError: the arrays are not those of this bundle, or have values that are not finite, or `original_size`
                is no pair of integers.
            PhotoError: a photo of that size is empty, or so narrow that its shorter side would vanish in the frame.
        """
        if not isinstance(features, tuple | list):
            raise UsageError("features are no tuple: give what get_image_features of the same model returned")
        manifest = self.bundle.manifest
        size = tuple(original_size) if isinstance(original_size, tuple | list | np.ndarray) else ()
        if len(size) != 2 or not all(isinstance(side, int | np.integer) for side in size):
            raise UsageError(f"original_size {original_size!r:.60} is no pair of integers; give the photo's (H, W)")
        frame = fitting_frame(manifest, (int(size[0]), int(size[1])))
        specs = encoder_contract(frame.size, manifest.embedding_channels, conventions=manifest.conventions).outputs
        if len(features) != len(specs):
            raise UsageError(
                f"{len(features)} arrays are given, and this bundle's encoder returns {len(specs)} "
                f"({', '.join(spec.name for spec in specs)}): use set_image_features(get_image_features(), size)"
            )
        for array, spec in zip(features, specs, strict=True):
            what = "embedding" if spec is specs[0] else spec.name
            if not isinstance(array, np.ndarray) or array.shape != spec.shape or array.dtype != np.float32:
                raise UsageError(
                    f"the {what} is {describe_array(array)}; this bundle's are float32 of shape {spec.shape}, "
                    "as get_image_features of the same model and input size returns them"
                )
            if not np.isfinite(array).all():
                raise UsageError(f"the {what} holds values that are not finite; encode the photo again with set_image")
        self._current = _SetImage(frame, tuple(np.array(array, order="C") for array in features))

    def predict(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
        text: Text | None = None,
    ) -> tuple[Masks, Float32, Float32]:
        """Masks for one prompt: points, a box, a mask, text, or any combination of them.

        Args:
            point_coords: `(N, 2)`, x, y in pixels of the photo, x in 0..W and y in 0..H.
            point_labels: `(N,)`, 1 inside the object, 0 outside it.
            box: `(4,)`, x0, y0, x1, y1 in pixels of the photo, with x0 < x1 and y0 < y1. It overlaps the photo. As in
                SAM 2, several boxes `(K, 4)` are K prompts; then every other input has K entries, too: points
                `(K, N, 2)`, labels `(K, N)`, masks `(K, 1, h/4, w/4)`; and each result has one more axis in front.
            mask_input: `(1, h/4, w/4)` logits: one mask of the third result of an earlier call.
            multimask_output: whether to return three masks (whole, part, subpart), for an ambiguous prompt such as one
                point; else one. SAM-HQ returns the best of the three.
            return_logits: whether masks are float32 logits instead of bool.
            normalize_coords: whether points and boxes are in pixels; else, as in SAM 2, from 0 to 1 of the photo.
            text: a word of the bundle's vocabulary, such as "cat", any text for a bundle with a text tower, or an
                embedding `(D,)`. Alone it asks for all that it names; with a point or a box for the one there.
                `object_scores` then tell whether it is in the photo.

        Returns:
            masks: `(M, H, W)` bool, or float32 logits, which are above 0 inside. M is 3 with `multimask_output`, else
                1 (SAM-HQ: always 1).
            scores: `(M,)` float32, the model's estimate of each mask's IoU.
            low_res: `(M, h/4, w/4)` float32 logits, for `mask_input` of a later call.

        Raises:
            StateError: no photo is set.
            PromptError: the prompt is malformed, lies outside the photo, or exceeds the decoder's capacity.
            BackendError: the engine failed.
        """
        image = self._image("predict")
        if not normalize_coords:
            point_coords = _in_pixels(point_coords, image.frame.original_size, 2)
            box = _in_pixels(box, image.frame.original_size, 4)
        prompts = build_prompts(
            image.frame,
            _batched(point_coords, "point_coords", 3),
            _batched(point_labels, "point_labels", 2),
            _batched(box, "box", 2),
            _batched(mask_input, "mask_input", 4),
            text=self._embedded([text] if isinstance(text, str) else _batched(text, "text", 2)),
        )
        masks, scores, low_res = self._predict(image, prompts, multimask_output, return_logits)
        return (masks[0], scores[0], low_res[0]) if len(prompts) == 1 else (masks, scores, low_res)

    def predict_batch(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        boxes: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        texts: Sequence[str] | Float32 | None = None,
    ) -> tuple[Masks, Float32, Float32]:
        """Masks for many prompts on the photo, in as few calls of the decoder as its capacity allows.

        Prompts of different lengths are padded to one array with points labelled -2, which have no effect.

        Args:
            point_coords: `(B, N, 2)`, x, y in pixels of the photo.
            point_labels: `(B, N)`: 1 inside the object, 0 outside it, -2 unused, -1 SAM's "not a point".
            boxes: `(B, 4)`, x0, y0, x1, y1 in pixels of the photo.
            mask_input: `(B, 1, h/4, w/4)` logits.
            multimask_output: whether to return three masks for each prompt; else one.
            return_logits: whether masks are float32 logits instead of bool.
            texts: B words of the bundle's vocabulary, texts for its tower, or embeddings `(B, D)`.

        Returns:
            masks: `(B, M, H, W)`, as `predict` returns them for each prompt.
            scores: `(B, M)` float32.
            low_res: `(B, M, h/4, w/4)` float32 logits.

        Raises:
            StateError: no photo is set.
            PromptError: a prompt is malformed, lies outside the photo, or exceeds the decoder's capacity.
            BackendError: the engine failed.
        """
        image = self._image("predict_batch")
        prompts = build_prompts(
            image.frame,
            point_coords,
            point_labels,
            boxes,
            mask_input,
            labels_allowed=_BATCH_LABELS,
            text=self._embedded(texts),
        )
        return self._predict(image, prompts, multimask_output, return_logits)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that the bundle knows.

        Raises:
            PromptError: it has no vocabulary.
            BundleError: the vocabulary is damaged.
        """
        return self.bundle.vocabulary()

    @cached_property
    def text_reader(self) -> TextReader:
        """What reads the bundle's texts: its vocabulary, or its text tower.

        Raises:
            PromptError: it has neither.
            UsageError: a tower needs the `tokenizers` library.
            BundleError: the vocabulary or the tokenizer is damaged.
        """
        part = self.bundle.manifest.text
        return self.vocabulary if part is None or part.rules is None else TextTower(self.bundle, part)

    def _embedded(self, texts: Sequence[str] | npt.ArrayLike | None) -> npt.ArrayLike | None:
        """Embeddings of texts; those that are given as numbers, as they are."""
        if texts is None or isinstance(texts, np.ndarray):
            return texts
        if (
            isinstance(texts, str)
            or not isinstance(texts, Sequence)
            or not all(isinstance(each, str) for each in texts)
        ):
            return np.asarray(texts)
        return self.text_reader.embed([str(each) for each in texts])

    def _predict(
        self, image: _SetImage, prompts: Prompts, multimask_output: bool, return_logits: bool
    ) -> tuple[Masks, Float32, Float32]:
        """Decode all prompts and resize the masks to the photo's size."""
        manifest = self.bundle.manifest
        decoded = decode_prompts(self.backend, manifest, image.features, prompts)
        require_finite_masks(decoded)
        low_res, scores = select_masks(decoded, manifest.conventions, multimask=multimask_output)
        self._object_scores = decoded.object_scores
        flat = low_res.reshape(-1, *low_res.shape[2:])  # (B * M, h/4, w/4)
        masks: Masks = upscale(flat, image.frame) if return_logits else upscale_binary(flat, image.frame)
        masks = masks.reshape(*low_res.shape[:2], *image.frame.original_size)
        return masks, scores, limited(low_res, manifest.conventions)


def _batched(values: npt.ArrayLike | None, name: str, dims: int) -> npt.NDArray[Any] | None:
    """`values` of one prompt as a batch of one; a batch, which has `dims` axes, as it is."""
    if values is None:
        return None
    try:
        array = np.asarray(values)
    except ValueError:
        raise PromptError(f"{name} has rows of different lengths; make it one rectangular array") from None
    return array if array.ndim == dims else array[None]


def _in_pixels(coords: npt.ArrayLike | None, size: tuple[int, int], numbers: int) -> npt.ArrayLike | None:
    """Coordinates from 0 to 1 in pixels of a photo of `size` (H, W), `numbers` of them a row; others as they are."""
    if coords is None:
        return None
    try:
        array = np.asarray(coords)
    except ValueError:
        return coords  # refused by the checks of prompts
    if array.dtype.kind not in "iuf" or not array.ndim or array.shape[-1] != numbers:
        return coords
    in_pixels: npt.NDArray[Any] = array * np.tile((size[1], size[0]), numbers // 2)
    return in_pixels
