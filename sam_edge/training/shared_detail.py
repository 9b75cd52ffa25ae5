"""nano's detail, unpacked once a photo instead of once a mask and step of a session.

The decoder unpacks the embedding's detail channels with a transposed convolution. The result depends on the photo
alone, and a session of prompts calls the decoder several times for each of a photo's masks. So it is computed once for
a photo, and repeated for its masks. Values and gradients are the same up to the order of sums.
"""

from __future__ import annotations

from torch import Tensor, nn

from sam_edge.model import DecoderGraph, Sam
from sam_edge.model.lean.upscaling import share_children
from sam_edge.model.nano_decoder import NanoMaskDecoder


class UnpackedNanoMaskDecoder(NanoMaskDecoder):
    """`NanoMaskDecoder` that takes the detail unpacked; it shares the plain one's submodules."""

    def __init__(self, plain: NanoMaskDecoder) -> None:
        nn.Module.__init__(self)
        share_children(self, plain)
        self.semantic = plain.semantic

    def forward(  # type: ignore[override]  # one input more
        self, embeddings: Tensor, unpacked: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor, empty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `NanoMaskDecoder.forward`; `unpacked` `(B, 32, 4h, 4w)` takes the place of the detail channels."""
        return self.decode(embeddings[:, : self.semantic], unpacked, positions, sparse, dense, empty)

    def to_stride_4(self, image: Tensor, detail: Tensor) -> Tensor:
        """Upscale the image's cells `(B, h * w, C)` and add the unpacked detail: features `(B, 32, 4h, 4w)`."""
        return self.upscaled(image, (detail.shape[2] // 4, detail.shape[3] // 4)) + detail


def with_unpacked_detail(sam: Sam) -> DecoderGraph | None:
    """A decoder graph whose first feature is the unpacked detail (`unpacked`); None for models other than nano."""
    if not isinstance(sam.mask_decoder, NanoMaskDecoder):
        return None
    graph = DecoderGraph(sam)
    graph.mask_decoder = UnpackedNanoMaskDecoder(sam.mask_decoder)
    return graph


def unpacked(graph: DecoderGraph, embeddings: Tensor) -> Tensor:
    """The detail of P photos' embeddings `(P, 256, h, w)` at stride 4: `(P, 32, 4h, 4w)`."""
    decoder = graph.mask_decoder
    detail: Tensor = decoder.unpack(embeddings[:, decoder.semantic :])  # type: ignore[operator]  # a nano decoder
    return detail
