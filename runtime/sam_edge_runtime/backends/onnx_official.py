"""ONNX Runtime with graphs of the official SAM layout behind the backends' protocol."""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.arrays import Decoded, Features, Float32, TextInputs
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.official import OFFICIAL_SINGLE_MASK
from sam_edge_runtime.errors import BackendError

from . import BackendOptions
from .onnx import OnnxBackend

_SMALLEST_PHOTO = np.ones(2, np.float32)  # masks of the photo's size are not used here: keep them small


class OfficialOnnxBackend(OnnxBackend):
    """Runs the two `.onnx` graphs of a bundle that was exported with `--layout official`.

    Raises:
        BackendError: as `OnnxBackend`; or the decoder returns one mask of a prompt, and the protocol has four.
    """

    def __init__(self, bundle: Bundle, options: BackendOptions) -> None:
        if bundle.manifest.interface == OFFICIAL_SINGLE_MASK:
            raise BackendError(
                f"{bundle.root} returns only the best mask of a prompt (--return-single-mask), and sam-edge needs all "
                "four: run decoder.onnx as the official model, or export again without that option"
            )
        super().__init__(bundle, options)

    def encode(self, image: Float32) -> Features:
        """The embeddings (1, C, H/16, W/16) float32 of an image (1, 3, S, S) float32; see `Backend.encode`."""
        return tuple(self._encoder_for(image).run(np.ascontiguousarray(image[0].transpose(1, 2, 0))))

    def decode(
        self,
        features: Features,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
        text: TextInputs | None = None,
    ) -> Decoded:
        """low_res_masks (1, 4, H/4, W/4) and iou_predictions (1, 4) of one prompt; see `Backend.decode`."""
        (embeddings,) = features
        _, scores, low_res = self._decoder_for(features).run(
            embeddings, point_coords, point_labels, mask_input, has_mask_input, _SMALLEST_PHOTO
        )
        return Decoded(low_res, scores)
