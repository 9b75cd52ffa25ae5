"""The two graphs in the form that a bundle has them in: its layout, plain or rewritten.

The plain form may have its decoder's lean twin, as far as that was measured to be faster on the target's own runtime
(docs/performance.md). For ONNX Runtime all of it, in fewer bits too: what it holds is weights in eight bits that become
floats when the file is loaded. For LiteRT only SAM's masks and only in float: products of two activations, of which the
lean attention is made, become fully connected layers with computed weights there, and XNNPACK leaves those to slower
kernels; and its quantizer keeps channels by the axes that torch has. For Core ML nothing, as long as nobody measured it
on a device.
"""

from __future__ import annotations

from sam_edge_exporters import PRECISIONS
from sam_edge_runtime.manifest import NEURAL_ENGINE, Manifest

from .ane import ane_rewrite
from .graphs import DecoderGraph, EncoderGraph
from .lean import ATTENTION, MASKS, PARTS, lean, pays
from .sam import Sam

# By target and whether in float.
LEAN = {("onnx", True): PARTS, ("onnx", False): PARTS, ("tflite", True): (MASKS,)}


def graphs_of(sam: Sam, manifest: Manifest) -> tuple[EncoderGraph, DecoderGraph]:
    """Image encoder and mask decoder as `manifest` says, in evaluation mode; they share the parameters of `sam`."""
    encoder, decoder = EncoderGraph(sam, manifest.layout).eval(), DecoderGraph(sam, manifest.layout).eval()
    if manifest.graph == NEURAL_ENGINE:
        return ane_rewrite(encoder), ane_rewrite(decoder)
    parts = LEAN.get((manifest.target, manifest.precision in PRECISIONS[manifest.target]), ())
    if parts:
        paying = [part for part in parts if part != ATTENTION or pays(decoder, manifest.points)]
        return encoder, lean(decoder, paying)
    return encoder, decoder
