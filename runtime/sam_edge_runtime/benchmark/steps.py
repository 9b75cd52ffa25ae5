"""The steps that are timed, from a photo's pixels to a mask.

    preprocess   resize and pad the photo
    encode       run the image encoder
    decode       run the mask decoder for one click
    postprocess  upscale the chosen mask to the photo's size
    click        decode and postprocess as `SamPredictor.predict` does, with the photo already set
    photo        `set_image` and the first click: from pixels to a mask

`click` minus `decode` and `postprocess` is the predictor's overhead.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.photo.frame import Frame, fitting_frame
from sam_edge_runtime.photo.masks import upscale_binary
from sam_edge_runtime.predictor import SamPredictor
from sam_edge_runtime.prompts import build_prompts

from .clock import timed

STEPS = ("preprocess", "encode", "decode", "postprocess", "click", "photo")
PARTS_OF_CLICK = ("decode", "postprocess")


def click_tensors(
    frame: Frame, sizes: tuple[int, ...] = (), slots: int | None = None
) -> tuple[Float32, Float32, Float32, Float32]:
    """The decoder's inputs, except the embeddings, for one click in the middle of the photo, in the contract's order.

    Args:
        frame: how the photo lies in it.
        sizes: numbers of prompts that a call may have, as in `Prompts.feeds`.
        slots: slots of each prompt, as in `Prompts.feeds`.
    """
    height, width = frame.original_size
    prompts = build_prompts(frame, np.array([[[width / 2, height / 2]]]), np.array([[1]]), None, None)
    (feed,) = prompts.feeds(sizes, slots)
    return feed.point_coords, feed.point_labels, feed.mask_input, feed.has_mask_input


class Steps:
    """Times one bundle's engine on a photo and a click in its middle.

    Args:
        bundle: the bundle.
        backend: its engine, loaded.
        photo: `(H, W, 3)` uint8.
    """

    def __init__(self, bundle: Bundle, backend: Backend, photo: npt.NDArray[np.uint8]) -> None:
        self._backend, self._photo = backend, photo
        height, width = photo.shape[:2]
        self._frame = fitting_frame(bundle.manifest, (height, width))
        self._point, self._label = np.array([[width / 2, height / 2]]), np.array([1])
        self._prompt = click_tensors(self._frame, bundle.manifest.call_sizes, bundle.manifest.points)
        self._predictor = SamPredictor(bundle, backend=backend)

    def first(self) -> tuple[float, float]:
        """Seconds of the first photo and of the first click on it.

        Raises:
            BackendError: the engine failed.
        """
        photo, _ = timed(lambda: self._predictor.set_image(self._photo), rest=0)
        click, _ = timed(self._click, rest=0)
        return photo, click

    def measure(self) -> dict[str, float]:
        """Run every step once; seconds by step.

        Raises:
            BackendError: the engine failed.
        """
        preprocess, image = timed(lambda: self._frame.image(self._photo))
        encode, features = timed(lambda: self._backend.encode(image))
        decode, decoded = timed(lambda: self._backend.decode(features, *self._prompt))
        postprocess, _ = timed(lambda: upscale_binary(decoded.low_res_masks[0, :1], self._frame))
        photo, _ = timed(self._photo_and_click)
        click, _ = timed(self._click)
        return dict(zip(STEPS, (preprocess, encode, decode, postprocess, click, photo), strict=True))

    def _photo_and_click(self) -> None:
        self._predictor.set_image(self._photo)
        self._click()

    def _click(self) -> None:
        self._predictor.predict(self._point, self._label, multimask_output=False)
