"""The image encoders of CLIP and SigLIP: a ViT, and what turns its tokens into one embedding.

Sources: "Learning Transferable Visual Models From Natural Language Supervision" (https://arxiv.org/abs/2103.00020,
section 2.4) for CLIP's class token; "Sigmoid Loss for Language Image Pre-Training"
(https://arxiv.org/abs/2303.15343) and "Scaling Vision Transformers" (https://arxiv.org/abs/2106.04560) for SigLIP's
attention pooling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import ClipConfig
from .layers import HIDDEN, Attention, Mlp, Transformer


class AttentionPooling(nn.Module):
    """One learned query asks all tokens, then an MLP."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        vision = config.vision
        self.probe = nn.Parameter(torch.zeros(1, 1, vision.width))
        self.attn = Attention(vision.width, vision.heads)
        self.ln = nn.LayerNorm(vision.width, config.eps)
        self.mlp = Mlp(vision.width, vision.hidden, config.activation)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map tokens `(B, T, width)` to `(B, width)`; `bias (B, 1, 1, T)` hides tokens."""
        probe = self.probe.expand(x.shape[0], -1, -1)
        pooled = self.attn(torch.cat([probe, x], dim=1), bias, queries=1)[:, 0]
        out: Tensor = pooled + self.mlp(self.ln(pooled))
        return out


class ClipImageEncoder(nn.Module):
    """Normalized images `(B, 3, side, side)` to embeddings `(B, D)`, not l2-normalized."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width = config.vision.width
        self.pooled = config.pooled
        self.conv1 = nn.Conv2d(3, width, config.patch, config.patch, bias=config.pooled)
        self.positional_embedding = nn.Parameter(torch.zeros(config.patches + (0 if config.pooled else 1), width))
        self.transformer = Transformer(config.vision, config.activation, config.eps)
        self.ln_post = nn.LayerNorm(width, config.eps)
        if config.pooled:
            self.head = AttentionPooling(config)
        else:
            self.class_embedding = nn.Parameter(torch.zeros(width))
            self.ln_pre = nn.LayerNorm(width, config.eps)
            self.proj = nn.Linear(width, config.dim, bias=False)

    def forward(self, image: Tensor, inside: Tensor | None = None) -> Tensor:
        """The embeddings of images that are normalized by the family's mean and deviation.

        Args:
            image: `(B, 3, side, side)`.
            inside: `(B, patches)` 1 where the last attention may look, else 0, row by row, as "Segment Anything"
                (https://arxiv.org/abs/2304.02643, appendix D.5) does with the patches of a mask; None: everywhere.
        """
        hidden = None if inside is None else (1.0 - inside)[:, None, None] * HIDDEN  # (B, 1, 1, patches)
        x = self.conv1(image).flatten(2).transpose(1, 2)  # (B, patches, width)
        if self.pooled:
            pooled: Tensor = self.head(self.ln_post(self.transformer(x + self.positional_embedding)), hidden)
            return pooled
        first = self.class_embedding.expand(x.shape[0], 1, -1)
        if hidden is not None:
            hidden = torch.nn.functional.pad(hidden, (1, 0))  # the class token stays in sight
        x = self.transformer(self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding), last=hidden)
        out: Tensor = self.proj(self.ln_post(x[:, 0]))
        return out
