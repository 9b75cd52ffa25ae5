"""Check that a state dict fits a model: the same names, the same shapes, finite numbers.

torch's strict loading checks this too, but it reports in hundreds of lines, after it has copied the tensors that fit.
Here everything is checked before anything is copied. If the names and shapes are those of another official variant, the
error names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sam_edge_runtime.errors import CheckpointError, short_name

SHOWN = 3  # names that the error lists of each kind

# The width of the position embeddings identifies a ViT, and the name of its first convolution TinyViT.
POSITION_EMBEDDING = "image_encoder.pos_embed"  # (1, H, W, C)
VARIANT_OF_WIDTH = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
TINY_VIT_STEM = "image_encoder.patch_embed.seq.0.c.weight"


def guess_variant(state: Mapping[str, torch.Tensor]) -> str | None:
    """The official variant that `state` belongs to, by its names and widths, or None."""
    if TINY_VIT_STEM in state:
        return "tiny_vit"
    if POSITION_EMBEDDING in state and state[POSITION_EMBEDDING].ndim == 4:
        return VARIANT_OF_WIDTH.get(state[POSITION_EMBEDDING].shape[-1])
    return None


def check_fit(state: Mapping[str, torch.Tensor], model: torch.nn.Module, label: str) -> None:
    """Check that `state` can be loaded into `model` strictly; neither is changed.

    Args:
        state: tensors by name.
        model: the model.
        label: the checkpoint's name in error messages.

    Raises:
        CheckpointError: names are missing or unexpected, shapes differ, a tensor has a type or layout that cannot be
            copied, or a number is NaN or infinite in the model's precision.
    """
    wanted: dict[str, torch.Tensor] = model.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    differing = [
        f"{name} is {tuple(state[name].shape)} where the model has {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if missing or unexpected or differing:
        faults = [_first("missing", missing), _first("unexpected", unexpected), _first("shapes:", differing)]
        found, expected = guess_variant(state), guess_variant(wanted)
        hint = (
            f"; these are the names and widths of {found}: use --model {found}" if found and found != expected else ""
        )
        raise CheckpointError(f"{label} is not for this model: {'; '.join(filter(None, faults))}{hint}")
    for name, tensor in wanted.items():
        _check_numbers(name, state[name], tensor.dtype, label)


def _first(kind: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{kind} {', '.join(map(short_name, items[:SHOWN]))}{more}"


def _check_numbers(name: str, tensor: torch.Tensor, dtype: torch.dtype, label: str) -> None:
    dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not dense or tensor.is_floating_point() != dtype.is_floating_point or tensor.is_complex():
        raise CheckpointError(
            f"{label}: {name} is a {tensor.dtype} {tensor.layout} tensor on {tensor.device.type}, "
            f"which cannot become the model's {dtype}: save dense float weights on the CPU"
        )
    # In the model's precision: 1e300 is finite in a float64 file and infinite in float32.
    if dtype.is_floating_point and not bool(torch.isfinite(tensor.to(dtype)).all()):
        raise CheckpointError(
            f"{label}: {name} holds NaN or infinite numbers: copy the file again, or use an earlier checkpoint"
        )
