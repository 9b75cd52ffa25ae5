"""INT8 weights in a file equal the trained weights; files without fitting scales are refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sam_edge.quantization.weight_grids import round_layers
from sam_edge.weights.packed import SCALE, packed, unpacked
from sam_edge.weights.state_file import read_file
from sam_edge_runtime.errors import CheckpointError


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.ModuleDict({"conv": nn.Conv2d(4, 6, 3), "up": nn.ConvTranspose2d(5, 3, 2), "free": nn.Linear(8, 8)})
    free = net["free"].weight.detach().clone()
    round_layers(net)
    return {**net.state_dict(), "free.weight": free}


def test_weights_on_the_quantization_grid_are_packed_and_restored_bit_by_bit(state, tmp_path):
    small = packed(state)
    assert {name for name, tensor in small.items() if tensor.dtype is torch.int8} == {"conv.weight", "up.weight"}
    assert small["conv.weight" + SCALE].shape == (6, 1, 1, 1)
    assert small["up.weight" + SCALE].shape == (1, 3, 1, 1)
    save_file({name: tensor.contiguous() for name, tensor in small.items()}, tmp_path / "a.safetensors")
    back = read_file(tmp_path / "a.safetensors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    "scale", [None, torch.ones(6), torch.ones(6, 1, 1, 1, dtype=torch.int32), torch.ones(5, 1, 1, 1)]
)
def test_int8_weights_without_fitting_scales_are_refused(state, scale):
    small = packed(state)
    small.pop("conv.weight" + SCALE)
    if scale is not None:
        small["conv.weight" + SCALE] = scale
    with pytest.raises(CheckpointError, match=r"conv\.weight") as caught:
        unpacked(small, "a.safetensors")
    assert "\n" not in str(caught.value)
