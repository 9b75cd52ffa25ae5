"""Graphs rewritten for CPU runtimes: same parameters, inputs and outputs, fewer and larger products.

`without_padded_cells` copies an encoder graph whose windowed attention projects no padding (`windows`).
`with_positions_for` copies one whose Hiera computes the positions of one frame without a bicubic resize (`positions`).
`with_merged_projection` copies one of SAM 2 whose pyramid makes the decoder's features at once (`pyramid`).
`with_parts` copies one whose Hiera computes a part of the map at a time (`hiera`).

`lean_rewrite` copies a decoder graph and replaces parts of it:

- Attention between tokens and image projects the few tokens instead of the 4,096 image cells (`attention`).
- The upscaling computes each image cell by itself, as matrix products with channels last, and arranges the finished
  masks as maps at the end (`upscaling`). CPU runtimes compute these products faster than transposed convolutions.

ONNX Runtime computes both parts faster; LiteRT gains from the upscaling of SAM's decoder alone (figures in
docs/performance.md). The table of targets in the runtime names the parts of each target. Outputs equal those of the
plain graph up to rounding; `tests/model/test_lean.py` compares them for both decoders.

INT8 decoders have the same parts as float ones. A quantizer recognizes a transposed or split weight, because it
identifies a layer by its weight's numbers in any order (`sam_edge_quant.layers`).
"""

from .hiera import with_parts
from .positions import with_positions_for
from .pyramid import merged_layers, with_merged_projection
from .rewrite import ATTENTION, MASKS, PARTS, attention_is_cheaper, lean_rewrite
from .windows import without_padded_cells

__all__ = [
    "ATTENTION",
    "MASKS",
    "PARTS",
    "attention_is_cheaper",
    "lean_rewrite",
    "merged_layers",
    "with_merged_projection",
    "with_parts",
    "with_positions_for",
    "without_padded_cells",
]
