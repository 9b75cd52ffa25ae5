"""Random weights from a seed: a tensor's numbers depend on its name, its shape and the seed, and on nothing else.

So two implementations of one architecture get the same weights without sharing a file, whatever the order of
construction and the version of torch. Magnitudes keep activations in range through many layers: kernels are divided by
the square root of their fan-in, normalization scales are near 1, and all others are small. The masks mean nothing, but
computing them costs as much as with trained weights.
"""

from __future__ import annotations

import math
import re
import zlib

import numpy as np
import numpy.typing as npt
import torch

# The last scale of each branch that RepViT's blocks add to their input; in RepViT-SAM one branch has a kernel of one
# number instead. Where these are near 1 instead of 0.3, features grow to 3e6.
RESIDUAL_SCALE = re.compile(
    r".*(token_mixer\.conv1?\.bn|token_mixer\.conv1|channel_mixer\.conv2\.bn|ffn\.conv2\.bn)\.weight"
)


def seeded_array(name: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float32]:
    """The numbers of the tensor called `name`.

    Args:
        name: the key in the state dict, for example `mask_decoder.iou_token.weight`.
        shape: any; two or more axes mean a kernel, whose first axis counts outputs.
        seed: an integer from 0 up.

    Returns:
        float32 of `shape`: a running variance is uniform in 0.5..1.5, a kernel normal around 0 with deviation
        1/sqrt(numbers per output), a one-dimensional weight normal around 1 with deviation 0.1 (0.3 times that in
        RepViT's branches), anything else normal around 0 with deviation 0.05.
    """
    draw = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith("running_var"):
        numbers = draw.uniform(0.5, 1.5, shape)
    elif len(shape) > 1:
        numbers = draw.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
    elif name.endswith("weight"):
        numbers = 1.0 + 0.1 * draw.standard_normal(shape)
    else:
        numbers = 0.05 * draw.standard_normal(shape)
    array = np.asarray(numbers, dtype=np.float32)
    return array * np.float32(0.3) if RESIDUAL_SCALE.fullmatch(name) else array


def seed_module(model: torch.nn.Module, seed: int) -> None:
    """Fill every floating point entry of the model's state dict in place; integer buffers are unchanged.

    Tensors are filled one at a time, so peak memory is the model and its largest tensor.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(seeded_array(name, tuple(tensor.shape), seed)))
