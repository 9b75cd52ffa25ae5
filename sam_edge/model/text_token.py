"""SAM's text prompt as its paper has it: a CLIP embedding becomes one more prompt token.

Source: "Segment Anything" (https://arxiv.org/abs/2304.02643, section 7.5 and appendix D.5). The paper trains with
CLIP's embeddings of the masks' own crops, and asks with CLIP's embeddings of texts, because the two are aligned. It
does not say how the vector becomes a token; here it is one linear layer. Where a prompt has no text, its token is an
empty slot, so the model's outputs for points, boxes and masks are those without this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from sam_edge_runtime.errors import CheckpointError, UsageError

from .sam import Sam

NAME = "text_token"  # the attribute of `Sam`, and the beginning of its weights' names
WEIGHT = f"{NAME}.project.weight"


class TextToken(nn.Module):
    """Text embeddings `(B, D)` to prompt tokens `(B, 1, C)`."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, channels)

    def forward(self, embeddings: Tensor, has_text: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens, and which of them are empty slots.

        Args:
            embeddings: `(B, D)` unit vectors.
            has_text: `(B)` 1 where the embedding counts, else 0.

        Returns:
            `(B, 1, C)`, and `(B, 1)` 1 where there is no text, else 0.
        """
        has = has_text.unsqueeze(-1)
        return (self.project(embeddings) * has).unsqueeze(1), 1.0 - has


def token_channels(sam: Sam) -> int:
    """C, the width of the decoder's tokens."""
    weight: Tensor = sam.prompt_encoder.not_a_point_embed.weight
    return weight.shape[1]


def add_text_token(sam: Sam, dim: int) -> TextToken:
    """Give a model an untrained text token for embeddings of D numbers, in place; an earlier one of that D is kept.

    Raises:
        UsageError: the model's prompts have no empty slots, or it has a token for another D.
    """
    if not hasattr(sam.prompt_encoder, "not_a_point_embed") or sam.words is not None:
        raise UsageError("this model's prompts leave no room for text: choose another, such as vit_b, tiny_vit or nano")
    if hasattr(sam, NAME):
        found = text_token_of(sam)
        if found.project.in_features != dim:
            raise UsageError(
                f"the model's text token is for embeddings of {found.project.in_features} numbers, and these have "
                f"{dim}: use the text encoder that it was trained with"
            )
        return found
    token = TextToken(dim, token_channels(sam))
    token.train(sam.training)
    sam.add_module(NAME, token)
    sam.conventions = replace(sam.conventions, text_channels=dim)
    return token


def text_token_of(sam: Sam) -> TextToken:
    """The text token of a model.

    Raises:
        UsageError: it has none.
    """
    token = getattr(sam, NAME, None)
    if not isinstance(token, TextToken):
        raise UsageError("this model takes no text: train it with `sam-edge train --stage text`")
    return token


def load_text_token(sam: Sam, tensors: Mapping[Any, object], label: str) -> bool:
    """Give a model the text token among the tensors of a file of weights; the others are not looked at.

    Args:
        sam: the model.
        tensors: what the file holds, by name.
        label: the file's name, for the error.

    Returns:
        Whether the file has one.

    Raises:
        CheckpointError: it does not fit the model.
    """
    state = {
        name.removeprefix(f"{NAME}."): tensor
        for name, tensor in tensors.items()
        if isinstance(name, str) and name.startswith(f"{NAME}.") and isinstance(tensor, Tensor)
    }
    if not state:
        return False
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    channels = token_channels(sam)
    weight = shapes.get("project.weight", ())
    if shapes.keys() != {"project.weight", "project.bias"} or len(weight) != 2 or weight[0] != channels:
        raise CheckpointError(f"{label} holds a text token of shape {weight}, and the model's tokens have {channels}")
    add_text_token(sam, weight[1]).load_state_dict(state)
    return True
