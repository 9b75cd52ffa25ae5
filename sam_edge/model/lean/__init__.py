"""Graphs rewritten for CPU runtimes: same parameters, inputs and outputs, fewer and larger products.

`without_padded_cells` copies an encoder graph whose windowed attention projects no padding (`windows`).
`with_positions_for` copies one whose Hiera computes the positions of one frame without a bicubic resize (`positions`).

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

from .positions import with_positions_for
from .rewrite import ATTENTION, MASKS, PARTS, attention_is_cheaper, lean_rewrite
from .windows import without_padded_cells

__all__ = [
    "ATTENTION",
    "MASKS",
    "PARTS",
    "attention_is_cheaper",
    "lean_rewrite",
    "with_positions_for",
    "without_padded_cells",
]
