"""Sizes and conventions of CLIP's kin, as data."""

from __future__ import annotations

from dataclasses import dataclass

from sam_edge_runtime.errors import UsageError

QUICK_GELU, GELU, TANH_GELU = "quick_gelu", "gelu", "gelu_pytorch_tanh"
ACTIVATIONS = (QUICK_GELU, GELU, TANH_GELU)  # as transformers names them
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class TransformerConfig:
    """The sizes of one encoder's transformer.

    Attributes:
        width: channels.
        layers: blocks.
        heads: of each attention; they divide `width`.

    Raises:
        UsageError: a size is below one, or the heads do not divide the width.
    """

    width: int
    layers: int
    heads: int

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads) < 1 or self.width % self.heads:
            raise UsageError(f"{self}: sizes are integers from 1 up, and the heads divide the width")

    @property
    def hidden(self) -> int:
        """Channels inside of the MLPs."""
        return 4 * self.width


@dataclass(frozen=True)
class ClipConfig:
    """A text encoder and an image encoder whose embeddings can be compared.

    Attributes:
        title: family, for users.
        dim: length D of the embeddings.
        text: sizes of the text encoder.
        vision: sizes of the image encoder.
        side: side of the square image, in pixels; a multiple of `patch`.
        patch: side of a patch, in pixels.
        vocabulary: number of tokens.
        context: tokens of a text, padding included.
        activation: of the MLPs, one of `ACTIVATIONS`.
        eps: of the normalizations.
        mean: of RGB in 0..1; subtracted first.
        std: of RGB in 0..1; divided by.
        end: the token that ends a text.
        pooled: whether SigLIP's conventions hold: no class token, attention pooling, no causal mask, the last token's
            output as the text's, and a bias of the logits.

    Raises:
        UsageError: a size or the activation is impossible.
    """

    title: str
    dim: int
    text: TransformerConfig
    vision: TransformerConfig
    side: int
    patch: int
    vocabulary: int
    context: int
    activation: str
    eps: float
    mean: Colour
    std: Colour
    end: int
    pooled: bool = False

    def __post_init__(self) -> None:
        if min(self.dim, self.side, self.patch, self.vocabulary, self.context) < 1 or self.side % self.patch:
            raise UsageError(f"{self.title}: sizes are integers from 1 up, and the patch divides the side")
        if self.activation not in ACTIVATIONS:
            raise UsageError(f"no activation called {self.activation!r:.60}: choose one of {', '.join(ACTIVATIONS)}")
        if not 0 <= self.end < self.vocabulary:
            raise UsageError(f"{self.title}: the last token {self.end} is not in the vocabulary of {self.vocabulary}")
        if self.pooled and self.dim != self.vision.width:
            raise UsageError(f"{self.title}: pooled embeddings have the image encoder's width {self.vision.width}")

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return (self.side // self.patch) ** 2
