"""What code written for `segment_anything.SamPredictor` reads beside the predictor's methods.

Names that need no torch are here: `transform` and `device`. The others raise an AttributeError that names their
replacement, so that `hasattr` returns False for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .bundle.bundle import Bundle
from .photo.transform import ResizeLongestSide

# Attributes of the reference that need torch, and what to use instead.
_REPLACEMENTS = {
    "model": "bundle.manifest has the sizes (input_side is image_encoder.img_size), backend runs the graphs",
    "set_torch_image": "set_image(photo) takes the uint8 photo and resizes it",
    "predict_torch": (
        "predict_batch(point_coords, point_labels, boxes, mask_input) takes numpy arrays in pixels of the photo, "
        "without transform.apply_coords"
    ),
}
_NO_TRANSFORM = (
    "transform keeps a photo's shape, and this model stretches photos: give set_image the photo and predict its pixels "
    "as they are"
)
# State of the reference that its users set to put an embedding back.
_STATE = ("features", "original_size", "input_size", "is_image_set")


class DropIn:
    """The reference's further attributes, for a class that has a `bundle`."""

    bundle: Bundle

    @property
    def device(self) -> str:
        """Where arrays lie that go in and come out: "cpu", whatever computes. torch takes it as a device too."""
        return "cpu"

    @property
    def transform(self) -> ResizeLongestSide:
        """The resize that `set_image` and `predict` do by themselves, for code that calls it.

        Raises:
            AttributeError: the model stretches photos, which that class does not.
        """
        if self.bundle.manifest.conventions.stretched:
            raise AttributeError(_NO_TRANSFORM)  # Python then asks `__getattr__`, whose error is seen
        return ResizeLongestSide(self.bundle.manifest.input_side)

    if not TYPE_CHECKING:  # a type checker should go on to report unknown names

        def __getattr__(self, name: str) -> Any:
            if name in _REPLACEMENTS:
                raise AttributeError(f"{name} needs torch, which this runtime lacks: {_REPLACEMENTS[name]}")
            if name == "transform":
                raise AttributeError(_NO_TRANSFORM)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def __setattr__(self, name: str, value: Any) -> None:
            if name in _STATE:
                raise AttributeError(
                    f"{name} cannot be set alone: set_image_embedding(embedding, original_size) sets "
                    f"{', '.join(_STATE)} together"
                )
            super().__setattr__(name, value)
