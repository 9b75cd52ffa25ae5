"""The tensor contract: inputs and outputs of the two graphs, declared once as data.

Exporters name tensors by it, manifests contain it, the runtime checks graphs against it, and tests read it.

Axis letters: B prompts, N slots of a prompt, C embedding channels, H and W height and width of the frame in pixels, S
the longer of both. A size in a shape is a number (fixed) or one of these letters (free).

The frame is the photo, resized to fit into H x W and padded at the bottom and right. The reference's frame is the
square S x S; a frame of the camera's shape leaves out rows or columns that would be padding. All coordinates in the
graphs are pixels of the frame. Positions are those of the square, cropped: a pixel has the same position embedding in
every frame of the same S. Labels are integers stored as float32, because integer inputs distort quantization scales and
are not supported by GPU delegates on phones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .conventions import SAM, Conventions

# SAM's normalization of RGB in 0..255 (segment_anything/build_sam.py). The encoder graph applies it.
PIXEL_MEAN: tuple[float, float, float] = (123.675, 116.28, 103.53)
PIXEL_STD: tuple[float, float, float] = (58.395, 57.12, 57.375)

EMBEDDING_STRIDE = 16  # frame pixels per cell of the embedding
MASK_STRIDE = 4  # frame pixels per pixel of a low-resolution mask
MASK_OUTPUTS = 4  # masks of one prompt
SINGLE_OUTPUT = 0  # of the four: the mask of an unambiguous prompt
FIRST_MULTIMASK = 1  # of the four: whole, part and subpart begin here
OBJECT_SCORE = "object_score_logits"
MASK_THRESHOLD = 0.0  # pixels whose logit is above it are inside the mask

SMALLEST_SIDE, LARGEST_SIDE, SIDE_STEP = 256, 1024, 64
# The shorter side of a frame, in pixels. nano's encoder needs multiples of 32, the other encoders of 16.
SMALLEST_SHORT_SIDE, FRAME_STEP = 128, 32

_IMAGE = "RGB photo, longest side resized to S, padded bottom and right with the pixel mean; not normalized"
_STRETCHED_IMAGE = "RGB photo, resized to S x S in float with antialiasing, aspect ratio lost; not normalized"
_ALIASED_IMAGE = "RGB photo, resized to S x S in float without antialiasing, aspect ratio lost; not normalized"
_CROPPED_IMAGE = "RGB photo, resized to fit into the frame, padded bottom and right with the pixel mean; not normalized"
_LABELS = "-2 empty slot, -1 not a point, 0 background, 1 foreground, 2 box top left, 3 box bottom right"
_LABELS_WITHOUT_BACKGROUND = "-2 or -1 not in use, 1 foreground, 2 box top left, 3 box bottom right"


class FrameSize(NamedTuple):
    """Size of a frame in pixels."""

    height: int
    width: int

    @classmethod
    def square(cls, side: int) -> FrameSize:
        """The reference's frame."""
        return cls(side, side)

    @property
    def side(self) -> int:
        """The longer side S."""
        return max(self)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the embedding: `(H/16, W/16)`."""
        return self.height // EMBEDDING_STRIDE, self.width // EMBEDDING_STRIDE

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of a low-resolution mask: `(H/4, W/4)`."""
        return self.height // MASK_STRIDE, self.width // MASK_STRIDE

    @property
    def name(self) -> str:
        """Width and height as people write them, such as `1024x768`; in names of files and signatures."""
        return f"{self.width}x{self.height}"


class Label(IntEnum):
    """What a prompt slot contains.

    All but `EMPTY` are those of segment_anything 1.0 (modeling/prompt_encoder.py).
    """

    EMPTY = -2
    """Nothing. The slot only fills a fixed shape; attention ignores it."""
    PADDING = -1
    """"Not a point", which SAM appends to every prompt with points and without a box."""
    BACKGROUND = 0
    """A point outside the object."""
    FOREGROUND = 1
    """A point inside the object."""
    BOX_TOP_LEFT = 2
    """The corner x0, y0 of a box."""
    BOX_BOTTOM_RIGHT = 3
    """The corner x1, y1 of a box."""


class Layout(str, Enum):
    """Axis order of photos and embeddings. Masks are NCHW in every layout."""

    NCHW = "NCHW"
    NHWC = "NHWC"

    def shape(self, channels: int, size: tuple[int, int]) -> tuple[int, ...]:
        """The shape of one map of `size` (H, W): `(1, channels, H, W)` or `(1, H, W, channels)`."""
        return (1, channels, *size) if self is Layout.NCHW else (1, *size, channels)

    def from_nchw(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Maps `(B, C, H, W)` in this axis order, contiguous."""
        return maps if self is Layout.NCHW else np.ascontiguousarray(maps.transpose(0, 2, 3, 1))

    def to_nchw(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Maps in this axis order as `(B, C, H, W)`, contiguous."""
        return maps if self is Layout.NCHW else np.ascontiguousarray(maps.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: of the tensor in the graph.
        shape: a number for each fixed axis, a letter for each free one.
        meaning: for people; not compared.
        value_range: smallest and largest value; None: unbounded.
        dtype: as numpy names it.
    """

    name: str
    shape: tuple[int | str, ...]
    meaning: str
    value_range: tuple[float, float] | None = None
    dtype: str = "float32"


@dataclass(frozen=True)
class GraphContract:
    """The tensors of one graph.

    Attributes:
        inputs: in the order of the graph's arguments.
        outputs: in the order of the graph's results.
    """

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
    """Whether the models support a frame side of `side` pixels: a multiple of 64 from 256 to 1024."""
    return SMALLEST_SIDE <= side <= LARGEST_SIDE and side % SIDE_STEP == 0


def frame_is_supported(frame: FrameSize, side: int) -> bool:
    """Whether the longer side of `frame` is `side`, both sides are multiples of 32, and the shorter is 128 or more."""
    return frame.side == side and min(frame) >= SMALLEST_SHORT_SIDE and not any(size % FRAME_STEP for size in frame)


def in_contract_order(
    conventions: Conventions, features: tuple[npt.NDArray[np.float32], ...], *prompts: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], ...]:
    """The inputs of the mask decoder in the order of `decoder_contract`: embedding, prompts, further features.

    Args:
        conventions: of the model's family.
        features: what the encoder returned for the photo.
        prompts: `point_coords`, `point_labels`, `mask_input` and `has_mask_input`, and where there is text
            `text_embeddings` and `has_text`. Inputs that the decoder does not take are left out; a decoder that takes
            text, and is given none, gets zeros.
    """
    embedding, *further = features
    points, masks, text = prompts[:2], prompts[2:4] if conventions.mask_prompts else (), prompts[4:]
    if conventions.text_channels is None:
        text = ()
    elif not text:
        count = len(points[0])
        text = (np.zeros((count, conventions.text_channels), np.float32), np.zeros(count, np.float32))
    return embedding, *points, *masks, *text, *further


def encoder_contract(
    frame: FrameSize, channels: int, layout: Layout = Layout.NCHW, conventions: Conventions = SAM
) -> GraphContract:
    """The image encoder's contract.

    Input: `image`, one RGB photo in the frame, 0..255, not normalized. Outputs: `image_embeddings`, then the features
    of the conventions.

    Args:
        frame: size (H, W) of the frame in pixels.
        channels: embedding channels C.
        layout: axis order of all tensors: `(1, 3, H, W)` and `(1, C, H/16, W/16)` in NCHW; where photos are resized to
            half of the frame, `(1, 3, H/2, W/2)`.
        conventions: of the model's family.
    """
    stretched = _STRETCHED_IMAGE if conventions.antialiased else _ALIASED_IMAGE
    image = stretched if conventions.stretched else _IMAGE
    image = image if frame == FrameSize.square(frame.side) else _CROPPED_IMAGE
    if conventions.image_stride > 1:
        image += f"; all sizes divided by {conventions.image_stride}"
    return GraphContract(
        inputs=(
            TensorSpec(
                "image",
                layout.shape(3, image_size(frame, conventions)),
                image,
                (0.0, 255.0),
            ),
        ),
        outputs=(
            TensorSpec("image_embeddings", layout.shape(channels, frame.grid), "embedding of the whole frame"),
            *_feature_specs(frame, layout, conventions, "features of the whole frame"),
        ),
    )


def _feature_specs(frame: FrameSize, layout: Layout, conventions: Conventions, meaning: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            each.name, layout.shape(each.channels, (frame.height // each.stride, frame.width // each.stride)), meaning
        )
        for each in conventions.features
    )


def image_size(frame: FrameSize, conventions: Conventions) -> FrameSize:
    """Size (H, W) of the encoder's image for a frame."""
    return FrameSize(*(size // conventions.image_stride for size in frame))


def frame_signature(frame: FrameSize) -> str:
    """Name of the signature or function for a frame, in a file that holds a graph for several frames."""
    return f"frame_{frame.name}"


def decoder_signature(prompts: int) -> str:
    """Name of the signature for calls of `prompts` prompts, in a decoder file with several signatures."""
    return f"prompts_{prompts}"


def decoder_contract(
    frame: FrameSize,
    channels: int,
    prompts: int | None,
    points: int | None,
    layout: Layout = Layout.NCHW,
    conventions: Conventions = SAM,
) -> GraphContract:
    """The mask decoder's contract.

    | input              | shape               | range                                 |
    |--------------------|---------------------|---------------------------------------|
    | `image_embeddings` | (1, C, H/16, W/16)  | the encoder's output, in `layout`     |
    | `point_coords`     | (B, N, 2)           | x, y in pixels of the frame, 0..S     |
    | `point_labels`     | (B, N)              | values of `Label`, -2..3              |
    | `mask_input`       | (B, 1, H/4, W/4)    | logits                                |
    | `has_mask_input`   | (B,)                | 1 where `mask_input` counts, else 0   |
    | `text_embeddings`  | (B, D)              | vectors of words or texts             |
    | `has_text`         | (B,)                | 1 where `text_embeddings` counts, else 0 |

    | output             | shape               |                                       |
    |--------------------|---------------------|---------------------------------------|
    | `low_res_masks`    | (B, 4, H/4, W/4)    | logits; above 0 is inside             |
    | `iou_predictions`  | (B, 4)              | the model's estimate of each mask's IoU |

    Features of the conventions are further inputs behind these, in their order; without mask prompts in the
    conventions there are no `mask_input` and `has_mask_input`, and without `text_channels` no `text_embeddings` and
    `has_text`. `object_score_logits (B, 1)` is a third output where the conventions have it. All tensors are float32.
    Of the four masks, 0 is for unambiguous prompts; 1, 2, 3 are whole, part and subpart.

    Args:
        frame: size (H, W) of the frame in pixels.
        channels: embedding channels C.
        prompts: fixed number of prompts B in a call; None: any.
        points: fixed number of slots N of a prompt; None: any.
        layout: axis order of the embedding and the features; masks are always NCHW.
        conventions: of the model's family.
    """
    b: int | str = prompts if prompts is not None else "B"
    n: int | str = points if points is not None else "N"
    return GraphContract(
        inputs=(
            TensorSpec("image_embeddings", layout.shape(channels, frame.grid), "the encoder's output"),
            TensorSpec("point_coords", (b, n, 2), "x, y in pixels of the S frame", (0.0, float(frame.side))),
            TensorSpec(
                "point_labels",
                (b, n),
                _LABELS if conventions.background_points else _LABELS_WITHOUT_BACKGROUND,
                (float(min(Label)), float(max(Label))),
            ),
            *(
                (
                    TensorSpec(
                        "mask_input", (b, 1, *frame.cells), "mask prompt as logits; ignored where has_mask_input is 0"
                    ),
                    TensorSpec("has_mask_input", (b,), "1 where mask_input counts, else 0", (0.0, 1.0)),
                )
                if conventions.mask_prompts
                else ()
            ),
            *(
                (
                    TensorSpec(
                        "text_embeddings", (b, conventions.text_channels), "of words; ignored where has_text is 0"
                    ),
                    TensorSpec("has_text", (b,), "1 where text_embeddings counts, else 0", (0.0, 1.0)),
                )
                if conventions.text_channels is not None
                else ()
            ),
            *_feature_specs(frame, layout, conventions, "of the encoder"),
        ),
        outputs=(
            TensorSpec(
                "low_res_masks",
                (b, MASK_OUTPUTS, *frame.cells),
                "logits; 0 is the single-mask output, 1..3 whole, part, subpart",
            ),
            TensorSpec(
                "iou_predictions",
                (b, MASK_OUTPUTS),
                "the model's own estimate of each mask's IoU",
                (0.0, 1.0) if conventions.bounded_iou else None,
            ),
            *(
                (TensorSpec(OBJECT_SCORE, (b, 1), "logit; above 0 the prompt has an object"),)
                if conventions.object_score
                else ()
            ),
        ),
    )
