"""The two graphs in the form that a bundle has them in: its layout, plain or rewritten.

In float the plain form has its decoder's lean twin, which is less work for the same answers.
"""

from __future__ import annotations

from sam_edge_runtime.manifest import NEURAL_ENGINE, Manifest

from .ane import ane_rewrite
from .graphs import DecoderGraph, EncoderGraph
from .lean import lean, pays
from .sam import Sam

IN_FLOAT = ("fp32", "fp16", "mixed")


def graphs_of(sam: Sam, manifest: Manifest) -> tuple[EncoderGraph, DecoderGraph]:
    """Image encoder and mask decoder as `manifest` says, in evaluation mode; they share the parameters of `sam`."""
    encoder, decoder = EncoderGraph(sam, manifest.layout).eval(), DecoderGraph(sam, manifest.layout).eval()
    if manifest.graph == NEURAL_ENGINE:
        return ane_rewrite(encoder), ane_rewrite(decoder)
    if manifest.precision in IN_FLOAT and pays(decoder, manifest.points):
        return encoder, lean(decoder)
    return encoder, decoder
