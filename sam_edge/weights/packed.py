"""Weights in eight bits in a file, and whole again: for models that were trained in eight bits.

Such a layer's weight lies on one grid for each output channel. The file has its whole numbers under the weight's own
name, as int8, and the grids' steps beside it under `NAME_scale`, as float32 that multiplies them. Nothing is lost.
"""

from __future__ import annotations

import numpy as np
import torch

from sam_edge.reporting.wording import in_one_line
from sam_edge_quant.methods.weight_scales import has_qat_scales, symmetric_scales
from sam_edge_runtime.errors import CheckpointError

SCALE = "_scale"

State = dict[str, torch.Tensor]


def packed(state: State) -> State:
    """A state with int8 in place of every float weight that lies on the grids of training in eight bits.

    Args:
        state: by parameter name; weights have their output channels first, or second for transposed convolutions.
    """
    found: State = {}
    for name, tensor in state.items():
        axis = _axis(tensor) if name.endswith("weight") else None
        if axis is None:
            found[name] = tensor
            continue
        steps = symmetric_scales(tensor.movedim(axis, 0).numpy()).astype(np.float32)
        scale = torch.from_numpy(steps).reshape([-1 if each == axis else 1 for each in range(tensor.ndim)])
        found[name], found[name + SCALE] = (tensor / scale).round().to(torch.int8), scale
    return found


def unpacked(state: State, name: str) -> State:
    """The state with float32 weights.

    Args:
        state: as `packed` makes it, or any other.
        name: of the file, for the error.

    Raises:
        CheckpointError: whole numbers without their steps, or with steps that do not fit.
    """
    found: State = {}
    used = set()
    for key, tensor in state.items():
        if tensor.dtype is not torch.int8:
            found[key] = tensor
            continue
        scale = state.get(key + SCALE)
        if scale is None or scale.ndim != tensor.ndim or not scale.dtype.is_floating_point:
            raise CheckpointError(
                f"{name} holds {in_one_line(key)} in whole numbers without their steps as {in_one_line(key + SCALE)}: "
                "it is no file of weights that sam-edge packed"
            )
        try:
            found[key] = tensor.float() * scale.float()
        except RuntimeError as error:
            raise CheckpointError(f"{name}: the steps of {in_one_line(key)} do not fit it") from error
        used.add(key + SCALE)
    return {key: tensor for key, tensor in found.items() if key not in used}


def _axis(tensor: torch.Tensor) -> int | None:
    """The axis that counts output channels of a weight on its grids; None for any other tensor."""
    if tensor.ndim < 2 or not tensor.dtype.is_floating_point:
        return None
    for axis in (0, 1):
        rows = tensor.movedim(axis, 0)
        if rows[0].numel() > 1 and bool(has_qat_scales(rows.float().numpy()).all()):
            return axis
    return None
