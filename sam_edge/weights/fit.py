"""Check that a state dict fits a model: the same names, the same shapes, finite numbers.

torch's strict loading checks this too, but it reports in hundreds of lines, after it has copied the tensors that fit.
Here everything is checked before anything is copied. If the names and shapes are those of another official variant, the
error names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sam_edge_runtime.errors import CheckpointError, short_name

from .families import Shapes, guess_variant

SHOWN = 3  # names that the error lists of each kind


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
    held, expected_shapes = _shapes(state), _shapes(wanted)
    if faults := differences(held, expected_shapes):
        found, expected = guess_variant(held), guess_variant(expected_shapes)
        hint = (
            f"; these are the names and widths of {found}: use --model {found}" if found and found != expected else ""
        )
        raise CheckpointError(f"{label} is not for this model: {faults}{hint}")
    for name, tensor in wanted.items():
        _check_numbers(name, state[name], tensor.dtype, label)


def differences(shapes: Shapes, wanted: Shapes) -> str:
    """How `shapes` differ from `wanted`: the first names that are missing, unexpected, or of another shape.

    Empty if they do not.
    """
    missing = [name for name in wanted if name not in shapes]
    unexpected = [name for name in shapes if name not in wanted]
    differing = [
        f"{name} is {shapes[name]} where the model has {shape}"
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != shape
    ]
    faults = (_first("missing", missing), _first("unexpected", unexpected), _first("shapes:", differing))
    return "; ".join(filter(None, faults))


def _shapes(state: Mapping[str, torch.Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


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
    # In the model's precision: 1e300 is finite in a float64 file and infinite in float32. The smallest and the largest
    # number are NaN if any number is.
    if dtype.is_floating_point and not bool(torch.stack(tensor.to(dtype).aminmax()).isfinite().all()):
        raise CheckpointError(
            f"{label}: {name} holds NaN or infinite numbers: copy the file again, or use an earlier checkpoint"
        )
