"""Which layers are decided together: a network's blocks, as people speak of them."""

from __future__ import annotations

from collections.abc import Iterable


def blocks_of(layers: Iterable[str]) -> tuple[str, ...]:
    """Names of the blocks of a network, in the order of its layers.

    A block is the first numbered part of a name (`image_encoder.blocks.3`), with its own numbered blocks where it has
    some (TinyViT's `image_encoder.layers.1.blocks.0`); what has no number is a block by itself, at the second level
    (`image_encoder.stem`, `mask_decoder.iou_prediction_head`).

    Args:
        layers: names as torch has them.
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
