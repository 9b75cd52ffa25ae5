"""What is timed: the way from a photo's pixels to a mask, step by step and as a whole.

    preprocess   resize and pad the photo
    encode       the image encoder
    decode       the mask decoder, one click
    postprocess  the chosen mask to the photo's size
    click        decode and postprocess as `SamPredictor.predict` runs them, on a photo that is set
    photo        `set_image` and the first click, from pixels to mask

What `click` takes beyond `decode` and `postprocess` is the predictor's own work.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, sleep
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle import Bundle
from sam_edge_runtime.frame import Frame
from sam_edge_runtime.masks import upscale_binary
from sam_edge_runtime.predictor import SamPredictor
from sam_edge_runtime.prompts import build_prompts

STEPS = ("preprocess", "encode", "decode", "postprocess", "click", "photo")
PARTS_OF_CLICK = ("decode", "postprocess")
# Seconds of rest before each step: an engine's threads look for more work for a while before they sleep.
SETTLE = 0.02
Answer = TypeVar("Answer")


class Steps:
    """A photo and a click in its middle, answered by one bundle's engine."""

    def __init__(self, bundle: Bundle, backend: Backend, photo: npt.NDArray[np.uint8]) -> None:
        self._backend, self._photo = backend, photo
        height, width = photo.shape[:2]
        self._frame = Frame(bundle.manifest.input_side, (height, width))
        self._point, self._label = np.array([[width / 2, height / 2]]), np.array([1])
        prompts = build_prompts(self._frame, self._point[None], self._label[None], None, None)
        (self._feed,) = prompts.feeds(bundle.manifest.call_sizes, bundle.manifest.points)
        self._predictor = SamPredictor(bundle, backend=backend)

    def first(self) -> tuple[float, float]:
        """Seconds of the very first photo and of the very first click on it.

        Raises:
            BackendError: the engine failed.
        """
        begun = perf_counter()
        self._predictor.set_image(self._photo)
        photo = perf_counter()
        self._click()
        return photo - begun, perf_counter() - photo

    def measure(self) -> dict[str, float]:
        """Seconds of each step, once.

        Raises:
            BackendError: the engine failed.
        """
        feed, backend = self._feed, self._backend
        seconds: dict[str, float] = {}

        def timed(step: str, work: Callable[[], Answer]) -> Answer:
            sleep(SETTLE)
            begun = perf_counter()
            answer = work()
            seconds[step] = perf_counter() - begun
            return answer

        image = timed("preprocess", lambda: self._frame.image(self._photo))
        embeddings = timed("encode", lambda: backend.encode(image))
        prompt = (feed.point_coords, feed.point_labels, feed.mask_input, feed.has_mask_input)
        masks, _ = timed("decode", lambda: backend.decode(embeddings, *prompt))
        timed("postprocess", lambda: upscale_binary(masks[0, :1], self._frame))
        timed("photo", self._photo_and_click)
        timed("click", self._click)
        return seconds

    def _photo_and_click(self) -> None:
        self._predictor.set_image(self._photo)
        self._click()

    def _click(self) -> None:
        self._predictor.predict(self._point, self._label, multimask_output=False)
