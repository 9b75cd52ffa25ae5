"""Whether a value is a photo, and for the usual other things the expression that makes one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.errors import PhotoError

_AS_READ = "give a uint8 array (H, W, 3), as read_photo returns it"
# The first that fits an array: whether it does, and the expression that makes a photo of it.
_REMEDIES: tuple[tuple[Callable[[npt.NDArray[Any]], bool], str], ...] = (
    (
        lambda image: image.dtype.kind == "f",
        "(image * 255).round().astype(np.uint8) if its values are 0..1, image.round().astype(np.uint8) if 0..255",
    ),
    (
        lambda image: image.dtype == np.uint16,
        "(image / 257).round().astype(np.uint8) if its values are 0..65535",
    ),
    (lambda image: image.dtype != np.uint8, "image.astype(np.uint8) if its values are 0..255"),
    (lambda image: image.ndim == 2, "np.stack([image] * 3, axis=-1) for a grey one"),
    (lambda image: image.ndim == 3 and image.shape[2] == 1, "np.repeat(image, 3, axis=-1) for a grey one"),
    (lambda image: image.ndim == 3 and image.shape[2] == 4, "image[:, :, :3] for RGB with transparency"),
    (lambda image: image.ndim == 3 and image.shape[0] == 3, "image.transpose(1, 2, 0) where the channels come first"),
    (lambda image: image.ndim == 4 and image.shape[0] == 1, "image[0] for the only one of a batch"),
)


def describe_array(value: object) -> str:
    """`value` by dtype and shape, or by its type, for a message."""
    if isinstance(value, np.ndarray):
        return f"{'an' if value.dtype.kind == 'i' else 'a'} {value.dtype} array of shape {value.shape}"
    return f"a value of type {type(value).__name__}"


def check_image(image: object) -> None:
    """Refuse what is no photo.

    Raises:
        PhotoError: `image` is no uint8 array (H, W, 3).
    """
    if not isinstance(image, np.ndarray):
        remedy = ""
        if hasattr(image, "convert"):  # a picture of Pillow, which need not be loaded to say so
            remedy = ': np.asarray(image.convert("RGB"))'
        elif hasattr(image, "numpy"):
            remedy = ": image.numpy()"
        raise PhotoError(f"the image is {describe_array(image)}; {_AS_READ}{remedy}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        remedy = next((remedy for fits, remedy in _REMEDIES if fits(image)), "")
        raise PhotoError(f"the image is {describe_array(image)}; {_AS_READ}{remedy and f': {remedy}'}")
