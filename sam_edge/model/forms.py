"""The two graphs in the form that a bundle has them in: its layout, plain or rewritten.

The plain form may have its decoder's lean twin, in float and in fewer bits, as far as that was measured to be faster on
the target's own runtime (docs/performance.md): all of it for ONNX Runtime. For LiteRT only SAM's masks: products of two
activations, of which the lean attention is made, become fully connected layers with computed weights there, and XNNPACK
leaves those to slower kernels. For Core ML nothing, as long as nobody measured it on a device.

LiteRT's graphs have normalizations that its converter does not multiply into weights (`norms`). ONNX Runtime's decoder
makes its positions from tables, which that runtime multiplies out when it loads a file.
"""

from __future__ import annotations

from typing import NamedTuple

from sam_edge_runtime.bundle.manifest import NEURAL_ENGINE, Manifest
from sam_edge_runtime.bundle.targets import target_named

from .ane import ane_rewrite
from .graphs import DecoderGraph, EncoderGraph
from .lean import ATTENTION, lean, pays
from .norms import scale_first
from .prompt_encoder import SeparablePositions
from .sam import Sam


class Graphs(NamedTuple):
    """The two graphs of a bundle."""

    encoder: EncoderGraph
    decoder: DecoderGraph


def graphs_of(sam: Sam, manifest: Manifest) -> Graphs:
    """Image encoder and mask decoder as `manifest` says, in evaluation mode; they share the parameters of `sam`."""
    encoder, decoder = EncoderGraph(sam, manifest.layout).eval(), DecoderGraph(sam, manifest.layout).eval()
    if manifest.graph == NEURAL_ENGINE:
        return Graphs(ane_rewrite(encoder), ane_rewrite(decoder))
    target = target_named(manifest.target)
    parts = [part for part in target.lean if part != ATTENTION or pays(decoder, manifest.points)]
    decoder = lean(decoder, parts) if parts else decoder
    if target.scale_first:  # in fp32 too, where it costs no time (docs/performance.md)
        return Graphs(scale_first(encoder), scale_first(decoder))
    if target.separable_positions:
        decoder.tables = SeparablePositions(sam.prompt_encoder)
    return Graphs(encoder, decoder)
