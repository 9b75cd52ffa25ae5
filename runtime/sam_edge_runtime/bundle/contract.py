"""The contract of the two graphs, declared once as data.

The exporter names its tensors after it, the manifest carries it, the runtime feeds and checks by it, the tests read it.
Axis letters: B prompts, N prompt slots, C embedding channels, S side of the square frame in pixels; a size in the
shape is either a number (fixed) or one of these letters (free).

The frame is the photo resized so that its longest side is S and padded at the bottom and right to S x S. All
coordinates inside the graphs are pixels of that frame. Labels are floats because integer inputs spoil quantization
scales and GPU delegates on phones; they hold whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

import numpy as np
import numpy.typing as npt

# SAM's normalization (segment_anything/build_sam.py), RGB in 0..255. It is applied inside the encoder graph.
PIXEL_MEAN: tuple[float, float, float] = (123.675, 116.28, 103.53)
PIXEL_STD: tuple[float, float, float] = (58.395, 57.12, 57.375)

EMBEDDING_STRIDE = 16  # frame pixels per embedding cell
MASK_STRIDE = 4  # frame pixels per low-resolution mask pixel
MASK_OUTPUTS = 4  # masks of one prompt
SINGLE_OUTPUT = 0  # of the four: the mask of an unambiguous prompt
FIRST_MULTIMASK = 1  # of the four: whole, part and subpart begin here
MASK_THRESHOLD = 0.0  # a logit above it is inside the mask

SMALLEST_SIDE, LARGEST_SIDE, SIDE_STEP = 256, 1024, 64


class Label(IntEnum):
    """What a prompt slot holds."""

    EMPTY = -2
    """Nothing: the slot only fills a fixed shape, and no attention looks at it."""
    PADDING = -1
    """SAM's own "not a point", which the reference adds to every prompt that has points and no box."""
    BACKGROUND = 0
    FOREGROUND = 1
    BOX_TOP_LEFT = 2
    BOX_BOTTOM_RIGHT = 3


class Layout(str, Enum):
    """Order of the axes of photos and embeddings: what an engine is fastest with."""

    NCHW = "NCHW"
    NHWC = "NHWC"

    def shape(self, channels: int, side: int) -> tuple[int, ...]:
        """The shape of one square map."""
        return (1, channels, side, side) if self is Layout.NCHW else (1, side, side, channels)

    def from_nchw(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Maps `(B, C, H, W)` in this order of axes, contiguous."""
        return maps if self is Layout.NCHW else np.ascontiguousarray(maps.transpose(0, 2, 3, 1))

    def to_nchw(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Maps in this order of axes as `(B, C, H, W)`, contiguous."""
        return maps if self is Layout.NCHW else np.ascontiguousarray(maps.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph: its name, shape, dtype, meaning and value range (None: unbounded)."""

    name: str
    shape: tuple[int | str, ...]
    meaning: str
    value_range: tuple[float, float] | None = None
    dtype: str = "float32"


@dataclass(frozen=True)
class GraphContract:
    """Inputs and outputs of one graph, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(spec.name for spec in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(spec.name for spec in self.outputs)


def side_is_supported(side: int) -> bool:
    """Whether `side` is a frame side that the models take: a multiple of 64 from 256 to 1024."""
    return SMALLEST_SIDE <= side <= LARGEST_SIDE and side % SIDE_STEP == 0


def encoder_contract(side: int, channels: int, layout: Layout = Layout.NCHW) -> GraphContract:
    """The image encoder's contract for a frame of `side` pixels and `channels` embedding channels."""
    grid = side // EMBEDDING_STRIDE
    return GraphContract(
        inputs=(
            TensorSpec(
                "image",
                layout.shape(3, side),
                "RGB photo, longest side resized to S, padded bottom and right with the pixel mean; not normalized",
                (0.0, 255.0),
            ),
        ),
        outputs=(TensorSpec("image_embeddings", layout.shape(channels, grid), "embedding of the whole frame"),),
    )


def decoder_signature(prompts: int) -> str:
    """Name of the signature that answers `prompts` prompts, in a decoder file that has one for each of several."""
    return f"prompts_{prompts}"


def decoder_contract(
    side: int, channels: int, prompts: int | None, points: int | None, layout: Layout = Layout.NCHW
) -> GraphContract:
    """The mask decoder's contract.

    Args:
        side: frame side S in pixels.
        channels: embedding channels C.
        prompts: fixed number of prompts B answered in one call, or None for any.
        points: fixed number of slots N in each prompt, or None for any.
        layout: axes of the embedding; masks are NCHW everywhere.
    """
    grid, low_res = side // EMBEDDING_STRIDE, side // MASK_STRIDE
    b: int | str = prompts if prompts is not None else "B"
    n: int | str = points if points is not None else "N"
    return GraphContract(
        inputs=(
            TensorSpec("image_embeddings", layout.shape(channels, grid), "the encoder's answer"),
            TensorSpec("point_coords", (b, n, 2), "x, y in pixels of the S frame", (0.0, float(side))),
            TensorSpec(
                "point_labels",
                (b, n),
                "-2 empty slot, -1 not a point, 0 background, 1 foreground, 2 box top left, 3 box bottom right",
                (float(min(Label)), float(max(Label))),
            ),
            TensorSpec(
                "mask_input", (b, 1, low_res, low_res), "mask prompt as logits; ignored where has_mask_input is 0"
            ),
            TensorSpec("has_mask_input", (b,), "1 where mask_input counts, else 0", (0.0, 1.0)),
        ),
        outputs=(
            TensorSpec(
                "low_res_masks",
                (b, MASK_OUTPUTS, low_res, low_res),
                "logits; 0 is the single-mask output, 1..3 whole, part, subpart",
            ),
            TensorSpec("iou_predictions", (b, MASK_OUTPUTS), "the model's own estimate of each mask's IoU"),
        ),
    )
