"""The runtime of sam-edge: a bundle and a photo in, masks out. It requires numpy, Pillow and one engine, never torch.

    from sam_edge_runtime import SamPredictor, read_photo

    predictor = SamPredictor("bundle")
    predictor.set_image(read_photo("photo.jpg"))
    masks, scores, low_res = predictor.predict(point_coords=[[500, 375]], point_labels=[1])

Pillow and the engine are imported on first use.
"""

from __future__ import annotations

from .automatic.generator import AutomaticMaskGenerator
from .automatic.settings import AutomaticSettings
from .backends import Backend, BackendOptions
from .bundle.bundle import Bundle
from .bundle.contract import Label
from .errors import (
    BackendError,
    BundleError,
    OutputError,
    PhotoError,
    PromptError,
    SamEdgeError,
    StateError,
    UsageError,
)
from .photo.draw import draw_overlay
from .photo.read import read_photo
from .predictor import SamPredictor
from .sam2_image_predictor import SAM2ImagePredictor

__version__ = "0.2.0.dev0"

__all__ = [
    "AutomaticMaskGenerator",
    "AutomaticSettings",
    "Backend",
    "BackendError",
    "BackendOptions",
    "Bundle",
    "BundleError",
    "Label",
    "OutputError",
    "PhotoError",
    "PromptError",
    "SAM2ImagePredictor",
    "SamEdgeError",
    "SamPredictor",
    "StateError",
    "UsageError",
    "__version__",
    "draw_overlay",
    "read_photo",
]
