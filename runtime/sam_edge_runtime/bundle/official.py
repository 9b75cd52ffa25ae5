"""The official SAM ONNX layout: other tensors for the same two graphs, so that code written for them runs unchanged.

The decoder has the tensors of segment_anything's scripts/export_onnx_model.py and utils/onnx.py (`SamOnnxModel`): one
prompt a call, masks resized to the photo's size inside the graph. segment_anything exports no encoder. The encoder has
the tensors of samexporter with `--use-preprocess`, whose files AnyLabeling reads
(https://github.com/vietanhdev/samexporter): the resized photo, normalized and padded inside the graph.

Axis letters: C embedding channels, N points, S side of the frame in pixels; h, w photo resized, its longest side S;
H, W photo.
"""

from __future__ import annotations

from typing import Any

from .contract import EMBEDDING_STRIDE, MASK_OUTPUTS, MASK_STRIDE, MASK_THRESHOLD, GraphContract, TensorSpec

# Who names a bundle's tensors: this project's contract, or the official model; the last returns one mask a prompt.
SAM_EDGE, OFFICIAL, OFFICIAL_SINGLE_MASK = "sam-edge", "official", "official-single-mask"
INTERFACES = (SAM_EDGE, OFFICIAL, OFFICIAL_SINGLE_MASK)


def official_encoder_contract(side: int, channels: int) -> GraphContract:
    """The official layout's image encoder for a frame of `side` pixels and `channels` embedding channels."""
    grid = side // EMBEDDING_STRIDE
    return GraphContract(
        inputs=(TensorSpec("input_image", ("h", "w", 3), f"RGB photo, longest side resized to {side}", (0.0, 255.0)),),
        outputs=(TensorSpec("image_embeddings", (1, channels, grid, grid), "embedding of the whole frame"),),
    )


def official_decoder_contract(side: int, channels: int, *, single_mask: bool) -> GraphContract:
    """The official layout's mask decoder; with `single_mask` it returns the best mask instead of all four."""
    grid, low_res = side // EMBEDDING_STRIDE, side // MASK_STRIDE
    masks = 1 if single_mask else MASK_OUTPUTS
    return GraphContract(
        inputs=(
            TensorSpec("image_embeddings", (1, channels, grid, grid), "output of the image encoder"),
            TensorSpec("point_coords", (1, "N", 2), "x, y in pixels of the S frame", (0.0, float(side))),
            TensorSpec(
                "point_labels",
                (1, "N"),
                "-1 not a point, 0 background, 1 foreground, 2 box top left, 3 box bottom right",
                (-1.0, 3.0),
            ),
            TensorSpec(
                "mask_input", (1, 1, low_res, low_res), "mask prompt as logits; ignored where has_mask_input is 0"
            ),
            TensorSpec("has_mask_input", (1,), "1 where mask_input counts, else 0", (0.0, 1.0)),
            TensorSpec("orig_im_size", (2,), "H, W of the photo in pixels"),
        ),
        outputs=(
            TensorSpec("masks", (1, masks, "H", "W"), f"logits of the photo's size; inside above {MASK_THRESHOLD:g}"),
            TensorSpec("iou_predictions", (1, masks), "the model's own estimate of each mask's IoU"),
            TensorSpec("low_res_masks", (1, masks, low_res, low_res), "logits, the next call's mask_input"),
        ),
    )


# What an app does before and after, in place of the contract's own (`processing`).
OFFICIAL_PREPROCESSING: dict[str, Any] = {
    "channel_order": "RGB",
    "resize": "longest side to S; the other side to floor(side * S / longest + 0.5)",
    "pad": "inside the graph",
    "normalization": {"inside_graph": True},
    "coordinates": "x * resized width / photo width, y likewise; the graph adds 0.5",
}
OFFICIAL_POSTPROCESSING: dict[str, Any] = {
    "resize": "inside the graph, to orig_im_size",
    "mask_threshold": MASK_THRESHOLD,
    "slots": "a point takes one, a box two (labels 2 and 3); points without a box end with one at (0, 0) labelled -1",
}
