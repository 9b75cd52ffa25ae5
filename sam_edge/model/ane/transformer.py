"""The two-way transformer of SAM's and nano's mask decoders on BC1S tensors."""

from __future__ import annotations

from torch import Tensor, nn

from sam_edge.model.transformer import Attention, TwoWayTransformer

from .attention import attend, split_keys, split_queries


class HeadwiseAttention(nn.Module):
    """`Attention` one head at a time."""

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.heads = plain.heads
        self.q_proj = plain.q_proj
        self.k_proj = plain.k_proj
        self.v_proj = plain.v_proj
        self.out_proj = plain.out_proj

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Attend from `q (B, C, 1, L)` to `k, v (B, C, 1, K)`; `key_bias (B, K, 1, 1)` is added to the scores.

        Returns:
            `(B, C, 1, L)`.
        """
        q, k, v = self.q_proj(q), self.k_proj(k), self.v_proj(v)
        queries = split_queries(q * (q.shape[1] // self.heads) ** -0.5, self.heads)
        biases = None if key_bias is None else [key_bias] * self.heads
        out: Tensor = self.out_proj(attend(queries, split_keys(k, self.heads), split_queries(v, self.heads), biases))
        return out


class BC1STransformer(nn.Module):
    """`TwoWayTransformer` whose layers are on BC1S, with the plain one's inputs and outputs.

    The plain transformer's code does not depend on the order of axes, so only its inputs and outputs are transposed.
    The mask decoder has already moved the image's channels last for it. Converters remove that transposition together
    with the one back.
    """

    def __init__(self, plain: TwoWayTransformer) -> None:
        super().__init__()
        self.transformer = plain

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor, key_bias: Tensor) -> tuple[Tensor, Tensor]:
        """Take and return what `TwoWayTransformer` does: `(B, HW, C)`, `(1, HW, C)`, `(B, T, C)`, `(B, 1, 1, T)`."""
        keys = key_bias.reshape(*tokens.shape[:2], 1, 1)
        tokens, image = self.transformer(_bc1s(image), _bc1s(image_pe), _bc1s(tokens), keys)
        return tokens.squeeze(2).transpose(1, 2), image.squeeze(2).transpose(1, 2)


def _bc1s(x: Tensor) -> Tensor:
    """`(B, S, C)` to `(B, C, 1, S)`."""
    return x.transpose(1, 2).unsqueeze(2)
