"""The decoder as engines compute it fastest in float: the same parameters, inputs and answers, less to do.

`lean` takes a decoder graph and returns its twin, as `ane_rewrite` does for the Neural Engine. Attention to and from
the image does without projecting the image (`attention`), and SAM's masks are computed cell by cell and put together
at the end (`upscaling`). What each step buys is in docs/performance.md; equality is tested for both decoders.

Quantized decoders keep the plain form. Their weights enter these products from another side than the one that they are
rounded on, and a quantizer finds layers by the weights that they have in torch.
"""

from .rewrite import ATTENTION, MASKS, PARTS, lean, pays

__all__ = ["ATTENTION", "MASKS", "PARTS", "lean", "pays"]
