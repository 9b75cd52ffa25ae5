"""`SAM2ImagePredictor`: many photos at once, with the interface of `sam2.sam2_image_predictor.SAM2ImagePredictor`.

Arguments, shapes and results are those of facebookresearch/sam2 (sam2/sam2_image_predictor.py), with numpy arrays; a
user of it changes one import. One difference: masks are bool, where SAM 2 has 0.0 and 1.0. It works with every bundle,
and `SamPredictor` with those of SAM 2: they differ in `predict_batch`, which here takes lists with an entry for each
photo. Prompts are checked as `SamPredictor` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .arrays import Float32
from .backends import Backend
from .bundle.bundle import Bundle
from .errors import PromptError, StateError, UsageError
from .predictor import Masks, SamPredictor

if TYPE_CHECKING:
    from PIL.Image import Image

PerPhoto = Sequence[npt.ArrayLike | None]


class SAM2ImagePredictor:
    """Encodes one photo or several, and answers prompts on them.

        predictor = SAM2ImagePredictor("bundle")
        predictor.set_image_batch([read_photo("a.jpg"), read_photo("b.jpg")])
        masks, scores, low_res = predictor.predict_batch(point_coords_batch=[[[500, 375]], [[20, 30]]],
                                                         point_labels_batch=[[1], [1]])

    Args:
        bundle: an opened bundle, or the path of its folder.
        threads: threads within an operator; None: one for each core.
        provider: the engine's accelerator; None: the CPU, or any unit for Core ML.
        backend: an engine to use instead of the one for the bundle's target.

    Raises:
        BundleError, BackendError, UsageError: as `SamPredictor`.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        threads: int | None = None,
        provider: str | None = None,
        backend: Backend | None = None,
    ) -> None:
        self._predictor = SamPredictor(bundle, threads=threads, provider=provider, backend=backend)
        self._batch: list[SamPredictor] | None = None  # one for each photo, on one engine

    @property
    def bundle(self) -> Bundle:
        """The opened bundle."""
        return self._predictor.bundle

    @property
    def device(self) -> str:
        """Where arrays lie that go in and come out: "cpu", whatever computes."""
        return self._predictor.device

    def set_image(self, image: npt.NDArray[np.uint8] | Image) -> None:
        """Encode a photo; later prompts refer to it.

        Args:
            image: `(H, W, 3)` uint8 RGB, or a Pillow image.

        Raises:
            PhotoError, BackendError: as `SamPredictor.set_image`.
        """
        self._predictor.set_image(_pixels(image))
        self._batch = None

    def set_image_batch(self, image_list: Sequence[npt.NDArray[np.uint8] | Image]) -> None:
        """Encode several photos, one after another; `predict_batch` then takes prompts for each.

        After an error the earlier photos are still set.

        Args:
            image_list: photos as `set_image` takes them, of any sizes.

        Raises:
            UsageError: there are none, or it is no list.
            PhotoError, BackendError: as `SamPredictor.set_image`.
        """
        if not isinstance(image_list, list | tuple) or not image_list:
            raise UsageError("image_list is no list of photos: give a list of uint8 arrays (H, W, 3), one at least")
        batch = [SamPredictor(self.bundle, backend=self._predictor.backend) for _ in image_list]
        for predictor, image in zip(batch, image_list, strict=True):
            predictor.set_image(_pixels(image))
        self._predictor.reset_image()
        self._batch = batch

    def predict(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[Masks, Float32, Float32]:
        """Masks for one prompt on the photo, or for several boxes; see `SamPredictor.predict`.

        Raises:
            StateError: no photo is set, or several are.
            PromptError, BackendError: as `SamPredictor.predict`.
        """
        if self._batch is not None:
            raise StateError(f"{len(self._batch)} photos are set; call predict_batch, or set_image with one photo")
        return self._predictor.predict(
            point_coords, point_labels, box, mask_input, multimask_output, return_logits, normalize_coords
        )

    def predict_batch(
        self,
        point_coords_batch: PerPhoto | None = None,
        point_labels_batch: PerPhoto | None = None,
        box_batch: PerPhoto | None = None,
        mask_input_batch: PerPhoto | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[Masks], list[Float32], list[Float32]]:
        """Masks for one prompt, or several boxes, on each of the photos of `set_image_batch`.

        Args:
            point_coords_batch: for each photo what `predict` takes, or None.
            point_labels_batch: likewise.
            box_batch: likewise.
            mask_input_batch: likewise.
            multimask_output: as in `predict`.
            return_logits: as in `predict`.
            normalize_coords: as in `predict`.

        Returns:
            For each photo, in order, what `predict` returns.

        Raises:
            StateError: `set_image_batch` was not called.
            PromptError: a list has not one entry for each photo; or as `SamPredictor.predict`.
            BackendError: the engine failed.
        """
        if self._batch is None:
            raise StateError("no photos are set; call set_image_batch(photos) before predict_batch")
        given = {
            "point_coords_batch": point_coords_batch,
            "point_labels_batch": point_labels_batch,
            "box_batch": box_batch,
            "mask_input_batch": mask_input_batch,
        }
        count = len(self._batch)
        for name, prompts in given.items():
            entries = len(prompts) if isinstance(prompts, list | tuple | np.ndarray) else 0
            if prompts is not None and entries != count:
                raise PromptError(f"{name} has {entries} entries for {count} photos; give one for each, or None")
        of_each = zip(*(prompts if prompts is not None else [None] * count for prompts in given.values()), strict=True)
        results = [
            predictor.predict(coords, labels, box, mask, multimask_output, return_logits, normalize_coords)
            for predictor, (coords, labels, box, mask) in zip(self._batch, of_each, strict=True)
        ]
        masks, scores, low_res = zip(*results, strict=True)
        return list(masks), list(scores), list(low_res)

    def get_image_embedding(self) -> Float32:
        """A copy of the photo's embeddings, `(1, C, h/16, w/16)` float32.

        Raises:
            StateError: no photo is set.
        """
        return self._predictor.get_image_embedding()

    def reset_predictor(self) -> None:
        """Forget all photos."""
        self._predictor.reset_image()
        self._batch = None


def _pixels(image: Any) -> Any:
    """A Pillow image as RGB; anything else as it is, for the predictor to check."""
    convert = getattr(image, "convert", None)
    return image if convert is None else np.asarray(convert("RGB"))
