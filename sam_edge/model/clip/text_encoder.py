"""The text encoders of CLIP and SigLIP: tokens to one embedding.

CLIP's attention is causal, and a text's embedding is the output at its first end token. SigLIP's attention sees every
token, padding included, and the embedding is the output at the last place. Sources: as `image_encoder`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import ClipConfig
from .layers import HIDDEN, Transformer


class ClipTextEncoder(nn.Module):
    """Tokens `(B, context)` to embeddings `(B, D)`, not l2-normalized."""

    hidden: Tensor | None
    earlier: Tensor | None

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width, context = config.text.width, config.context
        self.pooled, self.end = config.pooled, config.end
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, width))
        self.transformer = Transformer(config.text, config.activation, config.eps)
        self.ln_final = nn.LayerNorm(width, config.eps)
        self.text_projection = nn.Linear(width, config.dim, bias=config.pooled)
        above = torch.ones(context, context).triu(1)  # (T, T): 1 where a column comes after the row
        self.register_buffer("hidden", None if config.pooled else above * HIDDEN, persistent=False)
        self.register_buffer("earlier", None if config.pooled else above, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """The embeddings of texts.

        Args:
            tokens: `(B, context)` integers, in any dtype that holds them exactly; CLIP's texts have an end token.
        """
        ids = tokens.long()
        x = self.token_embedding(ids) + self.positional_embedding
        x = self.ln_final(self.transformer(x, self.hidden))
        pooled = x[:, -1] if self.earlier is None else self._at_end(x, ids, self.earlier)
        out: Tensor = self.text_projection(pooled)
        return out

    def _at_end(self, x: Tensor, ids: Tensor, earlier: Tensor) -> Tensor:
        """The output at the first end token. Tokens are compared as integers: in float16 neighbours would be equal."""
        is_end = (ids == self.end).to(x.dtype)  # (B, T)
        before = is_end @ earlier  # end tokens before each place
        first = is_end * (1.0 - before).relu()
        return (first.unsqueeze(1) @ x).squeeze(1)
