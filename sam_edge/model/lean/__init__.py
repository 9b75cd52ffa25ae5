"""The decoder in the form that engines compute fastest: same parameters, inputs and outputs, fewer operations.

`lean` takes a decoder graph and returns its twin, as `ane_rewrite` does for the Neural Engine. Attention to and from
the image does not project the image (`attention`), and SAM's masks are computed cell by cell and put together at the
end (`upscaling`). docs/performance.md says what each rewrite gains; tests compare the outputs of both decoders.

Quantized decoders have this form too, on the same targets as fp32 ones (`sam_edge.model.forms`). A quantizer
recognizes a transposed or split weight, because it identifies a layer by its weight's numbers in any order
(`sam_edge_quant.layers`).
"""

from .rewrite import ATTENTION, MASKS, PARTS, lean, pays

__all__ = ["ATTENTION", "MASKS", "PARTS", "lean", "pays"]
