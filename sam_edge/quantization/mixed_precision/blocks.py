"""Blocks of a network: layers that get their scheme together."""

from __future__ import annotations

from collections.abc import Iterable


def blocks_of(layers: Iterable[str]) -> tuple[str, ...]:
    """Names of a network's blocks, in the order of its layers.

    A block ends with the first number in a layer's name (`image_encoder.blocks.3`), or with the number of a `blocks`
    list directly behind it (TinyViT's `image_encoder.layers.1.blocks.0`). A layer without a number belongs to the block
    of its first two parts (`image_encoder.stem`, `mask_decoder.iou_prediction_head`).

    Args:
        layers: names as PyTorch has them.
    """
    return tuple(dict.fromkeys(map(block_of, layers)))


def block_of(layer: str) -> str:
    """The name of the block that a layer belongs to."""
    parts = layer.split(".")
    numbered = [place for place, part in enumerate(parts) if part.isdigit()]
    if not numbered:
        return ".".join(parts[:2])
    end = numbered[0] + 1
    if parts[end : end + 1] == ["blocks"]:
        end += 2
    return ".".join(parts[:end])
