"""The two encoders of CLIP or SigLIP as one model."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from sam_edge.model.replacement import replace_modules
from sam_edge_runtime.bundle.contract import Layout

from .config import ClipConfig
from .image_encoder import ClipImageEncoder
from .text_encoder import ClipTextEncoder


class Clip(nn.Module):
    """A text encoder and an image encoder; embeddings `(B, D)` of both can be compared by their cosine.

    Attributes:
        config: sizes and conventions.
        visual: the image encoder.
        text: the text encoder.
        logit_scale: logarithm of the factor that turns cosines into logits.
        logit_bias: added to the logits; SigLIP's only.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = ClipImageEncoder(config)
        self.text = ClipTextEncoder(config)
        self.logit_scale = nn.Parameter(torch.zeros(1) if config.pooled else torch.tensor(0.0))
        if config.pooled:
            self.logit_bias = nn.Parameter(torch.zeros(1))

    def encode_image(self, image: Tensor, inside: Tensor | None = None) -> Tensor:
        """Unit vectors `(B, D)` of normalized images `(B, 3, side, side)`; `inside` as for the image encoder."""
        return nn.functional.normalize(self.visual(image, inside), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit vectors `(B, D)` of tokens `(B, context)`."""
        return nn.functional.normalize(self.text(tokens), dim=-1)


class ClipImageGraph(nn.Module):
    """`image (B, 3, side, side)`, RGB in 0..255, to unit vectors `crop_embeddings (B, D)`: what is exported.

    With NHWC, channels come last.

    Attributes:
        normalizes: whether the image is normalized before the encoder; else its first convolution does so, see
            `with_folded_normalization`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, clip: Clip, layout: Layout = Layout.NCHW) -> None:
        super().__init__()
        self.visual, self.layout = clip.visual, layout
        self.normalizes = True
        for name, values in (("mean", clip.config.mean), ("std", clip.config.std)):
            self.register_buffer(name, 255.0 * torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Normalize the image, encode it, and divide by the length."""
        if self.layout is Layout.NHWC:
            image = image.permute(0, 3, 1, 2)
        return unit(self.visual((image - self.mean) / self.std if self.normalizes else image))


class ClipTextGraph(nn.Module):
    """`text_tokens (B, context)`, integers as float32, to unit vectors `text_embeddings (B, D)`: what is exported."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.text = clip.text

    def forward(self, text_tokens: Tensor) -> Tensor:
        """Encode the tokens, and divide by the length."""
        return unit(self.text(text_tokens))


def with_folded_normalization(graph: ClipImageGraph) -> ClipImageGraph:
    """A copy whose first convolution takes the image as it is, if all channels have one deviation; else the graph.

    LiteRT's converter folds one deviation for all channels into that weight, and a quantizer, which finds layers by
    their weights, would not recognize the changed one. Here it is folded before the layers are named. Other parameters
    are shared; outputs are equal up to rounding.
    """
    deviation = graph.std.flatten()[0]
    if not bool((graph.std == deviation).all()):
        return graph
    folded = replace_modules(graph, {nn.Conv2d: lambda conv: _of_pixels(conv, graph.mean, deviation)})
    folded.normalizes = False
    return folded


@torch.no_grad()
def _of_pixels(plain: nn.Conv2d, mean: Tensor, deviation: Tensor) -> nn.Conv2d:
    """A convolution without padding of `x` that equals `plain` of `(x - mean) / deviation`."""
    weight = plain.weight.double() / deviation
    offset = (weight * mean).sum(dim=(1, 2, 3))  # (width)
    layer = deepcopy(plain)
    layer.weight = nn.Parameter(weight.float(), requires_grad=False)
    layer.bias = nn.Parameter(((0.0 if plain.bias is None else plain.bias) - offset).float(), requires_grad=False)
    return layer.eval()


def unit(x: Tensor) -> Tensor:
    """Vectors `(B, D)` divided by their length; scaled first, as squares of large outputs overflow in float16."""
    x = x / x.abs().amax(dim=-1, keepdim=True)
    return x * (x * x).sum(dim=-1, keepdim=True).rsqrt()
