"""INT8 weights in a file, for models from quantization-aware training.

Each output channel of such a weight lies on a quantization grid, so it is stored without loss: int8 integers under the
weight's name, and under `NAME_scale` the float32 scales that multiply them.
"""

from __future__ import annotations

import numpy as np
import torch

from sam_edge_quant.methods.weight_scales import has_qat_scales, symmetric_scales
from sam_edge_runtime.errors import CheckpointError, short_name

SCALE = "_scale"

State = dict[str, torch.Tensor]


def packed(state: State) -> State:
    """The state with int8 integers and scales in place of every weight that lies on the grid of quantized training.

    Args:
        state: tensors by name; weights have output channels first, or second for transposed convolutions.
    """
    result: State = {}
    for name, tensor in state.items():
        axis = _channel_axis(tensor) if name.endswith("weight") else None
        if axis is None:
            result[name] = tensor
            continue
        scales = symmetric_scales(tensor.movedim(axis, 0).numpy()).astype(np.float32)
        scale = torch.from_numpy(scales).reshape([-1 if each == axis else 1 for each in range(tensor.ndim)])
        result[name], result[name + SCALE] = (tensor / scale).round().to(torch.int8), scale
    return result


def unpacked(state: State, name: str) -> State:
    """The state with float32 weights in place of int8 integers and their scales.

    Args:
        state: from `packed`, or any other; without int8 tensors it is returned as it is.
        name: the file's name in error messages.

    Raises:
        CheckpointError: int8 integers have no scales, or scales that do not fit.
    """
    result: State = {}
    used = set()
    for key, tensor in state.items():
        if tensor.dtype is not torch.int8:
            result[key] = tensor
            continue
        scale = state.get(key + SCALE)
        if scale is None or not scale.dtype.is_floating_point:
            raise CheckpointError(
                f"{name} holds {short_name(key)} in INT8 without float scales as {short_name(key + SCALE)}: "
                "use float weights, or a file that sam-edge packed"
            )
        # Checked, because a product with larger scales would broadcast a small file to gigabytes.
        if scale.ndim != tensor.ndim or any(a not in (1, b) for a, b in zip(scale.shape, tensor.shape, strict=True)):
            raise CheckpointError(
                f"{name}: the scales {tuple(scale.shape)} do not fit {short_name(key)} {tuple(tensor.shape)}: "
                "use float weights, or a file that sam-edge packed"
            )
        result[key] = tensor.float() * scale.float()
        used.add(key + SCALE)
    return {key: tensor for key, tensor in result.items() if key not in used}


def _channel_axis(tensor: torch.Tensor) -> int | None:
    """The axis of output channels of a weight that lies on the grid of quantized training; None for other tensors."""
    if tensor.ndim < 2 or not tensor.dtype.is_floating_point:
        return None
    for axis in (0, 1):
        rows = tensor.movedim(axis, 0)
        if rows[0].numel() > 1 and bool(has_qat_scales(rows.float().numpy()).all()):
            return axis
    return None
