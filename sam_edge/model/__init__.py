"""SAM in torch: one noun a file, official parameter names, and the two graphs that are exported.

`ane_rewrite` makes of such a graph one for Apple's Neural Engine, with the same parameters and answers.
"""

from __future__ import annotations

from .ane import ane_rewrite
from .forms import Graphs, graphs_of
from .graphs import DecoderGraph, EncoderGraph
from .norms import fold_batch_norms
from .sam import Sam
from .variants import VARIANTS, build_sam

__all__ = [
    "VARIANTS",
    "DecoderGraph",
    "EncoderGraph",
    "Graphs",
    "Sam",
    "ane_rewrite",
    "build_sam",
    "fold_batch_norms",
    "graphs_of",
]
