"""Trials of a search: candidates on the disk, their evaluation, stored measurements, and the simulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from torch import nn

from sam_edge.evaluation.paired import PairedLoss
from sam_edge.model import build_sam
from sam_edge.quantization.artifacts import ArtifactQuantizer
from sam_edge.quantization.calibration.calls import PromptedPhoto
from sam_edge.quantization.mixed_precision.goals import Measurement
from sam_edge.quantization.mixed_precision.sensitivity import Simulation
from sam_edge.quantization.mixed_precision.trials import GOLDEN, Evaluator, TrialCache, TrialRunner
from sam_edge.verification.compare import compare_photo
from sam_edge.weights.seeded import seed_module
from sam_edge_quant import recipe_named
from sam_edge_quant.onnx import quantizer as onnx_quantizer
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import Agreement
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.bundle.contract import FrameSize, Label
from sam_edge_runtime.bundle.conventions import SAM
from sam_edge_runtime.prompts import Prompts
from tests.runtime.automatic import discs
from tests.runtime.standin import IR_VERSION, OPSET, manifest

SCHEMES = {"image_encoder.stem": "w8a8", "mask_decoder.up": "w8"}
MEASUREMENT = Measurement(0.97, 0.6, None, 0.7)


def test_a_trial_cache_returns_what_was_measured_with_the_same_settings(tmp_path):
    path = tmp_path / "out.trials.json"
    TrialCache(path, {"target": "onnx", "bounds": (1, 2)}).add(SCHEMES, MEASUREMENT)
    again = TrialCache(path, {"target": "onnx", "bounds": (1, 2)})
    assert again.get(dict(reversed(SCHEMES.items()))) == MEASUREMENT
    assert again.get({**SCHEMES, "mask_decoder.up": "w8a8"}) is None
    assert TrialCache(path, {"target": "tflite", "bounds": (1, 2)}).get(SCHEMES) is None
    again.discard()
    assert not path.exists()


def test_a_trial_cache_keeps_losses_and_the_scores_that_they_refer_to(tmp_path):
    path = tmp_path / "out.trials.json"
    settings = {"target": "onnx", "labelled": {"photos": ["a"]}}
    measured = replace(MEASUREMENT, human=PairedLoss(0.6, 0.59, 0.01, 0.005, 0.015, 0.95, 2, 5))
    cache = TrialCache(path, settings)
    cache.keep_reference([[0.5, 0.75], [0.25]])
    cache.add(SCHEMES, measured)
    again = TrialCache(path, settings)
    assert again.get(SCHEMES) == measured
    assert again.reference_scores == [[0.5, 0.75], [0.25]]
    other = TrialCache(path, {"target": "onnx", "labelled": {"photos": ["b"]}})
    assert other.get(SCHEMES) is None
    assert other.reference_scores == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"settings": {}}',
        '{"settings": {"target": "onnx", "evaluator": 3}, "trials": {"{}": {"share": 1}}}',
    ],
)
def test_a_file_that_is_no_trial_cache_is_replaced(text, tmp_path):
    path = tmp_path / "out.trials.json"
    path.write_text(text)
    cache = TrialCache(path, {"target": "onnx"})
    assert cache.get(SCHEMES) is None
    cache.add(SCHEMES, MEASUREMENT)
    assert TrialCache(path, {"target": "onnx"}).get(SCHEMES) == MEASUREMENT


class OffsetInRightHalf(discs.DiscBackend):
    """Discs beside the click, in the right half of the frame."""

    def decode(self, features, point_coords, *others):
        beside = np.where(point_coords[..., :1] > 128, point_coords + 3, point_coords)
        return super().decode(features, beside, *others)


def test_an_evaluator_is_as_strict_as_the_golden_test_and_as_verify():
    of_discs = manifest(input_side=discs.SIDE, embedding_channels=4)
    reference, other = discs.DiscBackend(), OffsetInRightHalf()
    golden_test = golden.record(reference, of_discs)
    evaluator = Evaluator(golden_test, (), reference, of_discs)
    golden_miou = golden.check(golden_test, other, of_discs).mask_miou
    compared = [compare_photo(GOLDEN, each, reference, other, of_discs).agreement for each in golden_test.pictures]
    verify_miou = Agreement(tuple(compared)).mask_miou
    assert evaluator(reference) == 1.0
    assert golden_miou == 1.0  # its prompts all lie in the left half
    assert 0.5 < verify_miou < 0.98
    assert evaluator(other) == pytest.approx(verify_miou)


class TwoLayers(nn.Module):
    """A convolution in the encoder's place and one in the decoder's."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.ModuleDict({"stem": nn.Conv2d(3, 64, 3, bias=False)})
        self.mask_decoder = nn.ModuleDict({"up": nn.Conv2d(64, 64, 3, bias=False)})


def write_convolution(weight: torch.Tensor, path: Path) -> None:
    stored = numpy_helper.from_array(weight.detach().numpy(), "weight")
    shape = [1, weight.shape[1], 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["y"])],
        path.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, len(weight), 6, 6])],
        [stored],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)


def output(path: Path, inputs: np.ndarray) -> np.ndarray:
    (result,) = InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": inputs})
    return result


def test_a_candidate_whose_weights_lie_beside_its_graphs_can_be_loaded(tmp_path, monkeypatch):
    """As the weights of a graph above 2 GiB do."""
    monkeypatch.setattr(onnx_quantizer, "EXTERNAL_DATA_ABOVE", 0)
    torch.manual_seed(0)
    network = TwoLayers()
    layers = {"encoder.onnx": network.image_encoder["stem"], "decoder.onnx": network.mask_decoder["up"]}
    for name, layer in layers.items():
        write_convolution(layer.weight, tmp_path / name)
    quantizer = ArtifactQuantizer(network, manifest(), None, tmp_path, "x86")  # w8 needs no calibration
    runner = TrialRunner(quantizer, recipe_named("w8"), None, None, 0.0, lambda stage: None, timed=False)
    schemes = {"image_encoder.stem": "w8", "mask_decoder.up": "w8"}
    runner.write(schemes, tmp_path / "first")
    folder = runner.write({**schemes, "mask_decoder.up": "fp32"}, tmp_path / "second")  # takes the first one's encoder
    assert (folder / "encoder.onnx.data").is_file()
    rng = np.random.default_rng(0)
    for name, layer in layers.items():
        inputs = rng.normal(size=(1, layer.in_channels, 8, 8)).astype(np.float32)
        with torch.inference_mode():
            expected = layer(torch.from_numpy(inputs)).numpy()
        assert snr_db(expected, output(folder / name, inputs)) > 35


class AnyCapacity:
    """The attributes of a manifest that decoding uses."""

    frames, conventions, call_sizes, points = (FrameSize.square(256),), SAM, (), None

    def of_any_capacity(self):
        return self


def clicks(count: int) -> PromptedPhoto:
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (1, 3, 8, 8)).astype(np.float32).repeat(32, axis=2).repeat(32, axis=3)
    labels = np.array([[Label.FOREGROUND, Label.PADDING]] * count, np.float32)
    coords = np.concatenate([rng.uniform(0, 256, (count, 1, 2)), np.zeros((count, 1, 2))], axis=1).astype(np.float32)
    return PromptedPhoto(image, (Prompts(coords, labels, None, FrameSize.square(256)),))


def test_operations_are_those_of_one_photo_and_one_click():
    sam = build_sam("nano")
    sam.set_input_side(256)
    operations = Simulation(sam, [clicks(4)], AnyCapacity()).operations
    stem, up = sam.image_encoder.stem.weight, sam.mask_decoder.up_8.weight
    assert operations["image_encoder.stem"] == 2 * stem.numel() * 128 * 128
    assert operations["mask_decoder.up_8"] == 2 * up.numel() * 16 * 16  # a transposed convolution, of each cell


def test_the_block_that_reads_a_wide_range_loses_most_masks():
    sam = build_sam("nano")
    seed_module(sam, 3)
    sam.set_input_side(256)
    spread = torch.ones(24)
    spread[0] = 3e3  # one channel takes up the range and leaves the others a level or two
    with torch.no_grad():
        block = sam.image_encoder.blocks[3]
        sam.image_encoder.blocks[2].project.weight.mul_(spread[:, None, None, None])
        block.expand.weight.div_(spread[None, :, None, None])
    blocks = ["image_encoder.blocks.3", "image_encoder.blocks.8", "mask_decoder.up_8"]
    lost = Simulation(sam, [clicks(4)], AnyCapacity()).masks_lost(blocks)
    assert list(lost) == blocks
    assert lost["image_encoder.blocks.3"] > 3 * max(lost["image_encoder.blocks.8"], lost["mask_decoder.up_8"])
    assert all(0 <= share <= 1 for share in lost.values())
