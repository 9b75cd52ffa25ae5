"""SAM in torch: one noun a file, official parameter names, and the two graphs that are exported."""

from __future__ import annotations

from .forms import graphs_of
from .graphs import DecoderGraph, EncoderGraph
from .sam import Sam
from .variants import VARIANTS, build_sam

__all__ = ["VARIANTS", "DecoderGraph", "EncoderGraph", "Sam", "build_sam", "graphs_of"]
