"""The two graphs in the form that a bundle's target computes fastest.

Encoders project only the map's cells, not the padding of windows (`lean.windows`), but for `ane`. Hiera has the
positions of the frame (`lean.positions`), SAM 2's pyramid makes the decoder's features at once (`lean.pyramid`), and
RepViT's parallel branches are one convolution. Beyond that, each target gets the rewrites that were measured to be
faster on its own runtime (docs/performance.md), at every precision:

- ONNX Runtime: Hiera in parts (`lean.hiera`), and the whole lean decoder. Its dense positions come from small lookup
  tables, which that runtime expands once, when it loads the file.
- LiteRT: of the lean decoder only SAM's cellwise masks. LiteRT's converter turns the lean attention's products of two
  activations into fully connected layers with computed weights, for which XNNPACK has no kernel. Normalizations are
  rewritten so that the converter does not multiply their scales into weights (`norms`).
- Core ML: the plain graphs, or the rewrites of `ane` where the manifest says so. No device was at hand to measure the
  lean decoder.
"""

from __future__ import annotations

from typing import NamedTuple

from sam_edge_runtime.bundle.manifest import NEURAL_ENGINE, Manifest
from sam_edge_runtime.bundle.targets import target_named

from .ane import ane_rewrite
from .graphs import DecoderGraph, EncoderGraph, decoder_graph
from .lean import (
    ATTENTION,
    attention_is_cheaper,
    lean_rewrite,
    with_merged_projection,
    with_parts,
    with_positions_for,
    without_padded_cells,
)
from .norms import scale_first, without_batch_norms
from .prompt_encoder import SeparablePositions
from .repvit import BranchedConv
from .sam import Sam


class Graphs(NamedTuple):
    """The two graphs of a bundle."""

    encoder: EncoderGraph
    decoder: DecoderGraph


def graphs_of(sam: Sam, manifest: Manifest) -> Graphs:
    """The graphs of the first frame that `manifest` names, in evaluation mode; they share the parameters of `sam`."""
    encoder = with_positions_for(EncoderGraph(sam, manifest.layout).eval(), manifest.frame)
    decoder = decoder_graph(sam, manifest.layout, manifest.frame).eval()
    if any(isinstance(module, BranchedConv) for module in encoder.modules()):
        encoder = without_batch_norms(encoder)
    if manifest.graph == NEURAL_ENGINE:
        return Graphs(ane_rewrite(encoder), ane_rewrite(decoder))
    target = target_named(manifest.target)
    encoder = with_merged_projection(encoder)
    encoder = without_padded_cells(with_parts(encoder) if target.in_parts else encoder)
    parts = target.lean
    if ATTENTION in parts and not attention_is_cheaper(decoder, manifest.points):
        parts = tuple(part for part in parts if part != ATTENTION)
    decoder = lean_rewrite(decoder, parts) if parts else decoder
    if target.scale_first:  # in fp32 too, where it costs no time (docs/performance.md)
        return Graphs(scale_first(encoder), scale_first(decoder))
    if target.separable_positions:
        decoder.tables = SeparablePositions(sam.prompt_encoder, manifest.frame.grid)
    return Graphs(encoder, decoder)
