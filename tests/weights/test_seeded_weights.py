"""Seeded weights: their reference values and their magnitudes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_edge.weights.seeded import seed_module, seeded_array

# First numbers of a tensor. A change of the formula would change every seeded model.
REFERENCE = [
    ("image_encoder.patch_embed.seq.0.c.weight", (32, 3, 3, 3), 0, [0.04520179, -0.018970588, 0.19011246]),
    ("image_encoder.patch_embed.seq.0.bn.weight", (32,), 0, [0.9585237, 0.8639732, 1.1948446]),
    ("image_encoder.patch_embed.seq.0.bn.running_var", (32,), 0, [1.0828955, 1.2875497, 1.0795355]),
    ("image_encoder.patch_embed.seq.0.bn.running_mean", (32,), 0, [0.039588038, -0.017508537, -0.02706751]),
    ("mask_decoder.iou_token.weight", (1, 256), 0, [0.06552335, -0.122812085, 0.00061613566]),
    ("mask_decoder.iou_token.weight", (1, 256), 7, [-0.05219189, 0.041689556, 0.08417432]),
    ("temperature", (), 3, [0.0019192221]),
]


@pytest.mark.parametrize(("name", "shape", "seed", "first"), REFERENCE, ids=lambda value: str(value)[:40])
def test_seeded_numbers_equal_the_reference_values(name, shape, seed, first):
    array = seeded_array(name, shape, seed)
    assert (array.dtype, array.shape) == (np.float32, shape)
    np.testing.assert_array_equal(array.reshape(-1)[: len(first)], np.asarray(first, np.float32))


def test_magnitudes_keep_activations_in_range():
    kernel = seeded_array("conv.weight", (64, 32, 3, 3), 0)
    assert kernel.std() * np.sqrt(32 * 9) == pytest.approx(1, abs=0.02)
    scale = seeded_array("norm.weight", (4096,), 0)
    assert (scale.mean(), scale.std()) == (pytest.approx(1, abs=0.01), pytest.approx(0.1, abs=0.01))
    shift = seeded_array("norm.bias", (4096,), 0)
    assert (shift.mean(), shift.std()) == (pytest.approx(0, abs=0.01), pytest.approx(0.05, abs=0.005))
    variance = seeded_array("bn.running_var", (4096,), 0)
    assert variance.min() >= 0.5
    assert variance.max() <= 1.5
    assert variance.std() == pytest.approx(1 / np.sqrt(12), abs=0.02)


def test_numbers_depend_on_name_and_seed():
    a = seeded_array("a.weight", (4, 4), 0)
    assert not np.array_equal(a, seeded_array("b.weight", (4, 4), 0))
    assert not np.array_equal(a, seeded_array("a.weight", (4, 4), 1))
    np.testing.assert_array_equal(a, seeded_array("a.weight", (4, 4), 0))


def test_a_module_is_filled_by_its_state_dict_names():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    model[1].num_batches_tracked.fill_(7)
    model.register_parameter("temperature", torch.nn.Parameter(torch.tensor(3.0)))
    seed_module(model, 5)
    for name, tensor in model.state_dict().items():
        if name == "1.num_batches_tracked":
            assert int(tensor) == 7
        else:
            np.testing.assert_array_equal(tensor.numpy(), seeded_array(name, tuple(tensor.shape), 5))
    assert all(parameter.requires_grad for parameter in model.parameters())
