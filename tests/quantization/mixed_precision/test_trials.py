"""What is remembered of a search, and which blocks it takes to cost most."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_edge.model import build_sam
from sam_edge.quantization.calibration.calls import Question
from sam_edge.quantization.mixed_precision.configuration import Measured
from sam_edge.quantization.mixed_precision.sensitivity import Simulation
from sam_edge.quantization.mixed_precision.trials import GOLDEN, Evaluator, TrialCache
from sam_edge.verification.compare import compare_photo
from sam_edge.weights.seeded import seed_module
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import Agreement
from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.prompts import Prompts
from tests.runtime.automatic import discs
from tests.runtime.standin import manifest

SCHEMES = {"image_encoder.stem": "w8a8", "mask_decoder.up": "w8"}
MEASURED = Measured(0.97, 0.6, None, 0.7)


def test_a_ledger_gives_back_what_was_measured_with_the_same_settings(tmp_path):
    path = tmp_path / "out.trials.json"
    TrialCache(path, {"target": "onnx", "bounds": (1, 2)}).add(SCHEMES, MEASURED)
    again = TrialCache(path, {"target": "onnx", "bounds": (1, 2)})
    assert again.get(dict(reversed(SCHEMES.items()))) == MEASURED
    assert again.get({**SCHEMES, "mask_decoder.up": "w8a8"}) is None
    assert TrialCache(path, {"target": "tflite", "bounds": (1, 2)}).get(SCHEMES) is None
    again.discard()
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": {}}'])
def test_a_ledger_that_is_none_is_begun_anew(text, tmp_path):
    path = tmp_path / "out.trials.json"
    path.write_text(text)
    ledger = TrialCache(path, {"target": "onnx"})
    assert ledger.get(SCHEMES) is None
    ledger.add(SCHEMES, MEASURED)
    assert TrialCache(path, {"target": "onnx"}).get(SCHEMES) == MEASURED


class HalfWrong(discs.DiscBackend):
    """Discs that lie beside the click, in the right half of the frame."""

    def decode(self, image_embeddings, point_coords, *others):
        beside = np.where(point_coords[..., :1] > 128, point_coords + 3, point_coords)
        return super().decode(image_embeddings, beside, *others)


def test_a_judge_is_as_strict_as_a_bundle_s_own_test_and_as_verify():
    of_discs = manifest(input_side=discs.SIDE, embedding_channels=4)
    reference, other = discs.DiscBackend(), HalfWrong()
    answers = golden.record(reference, of_discs)
    judge = Evaluator(answers, (), reference, of_discs)
    own = golden.check(answers, other, of_discs).mask_miou
    compared = [compare_photo(GOLDEN, each, reference, other, of_discs).agreement for each in answers.pictures]
    verified = Agreement(tuple(compared)).mask_miou
    assert judge(reference) == 1.0
    assert own == 1.0  # whose prompts all lie in the left half
    assert 0.5 < verified < 0.98
    assert judge(other) == pytest.approx(verified)


class AnyCapacity:
    """As much of a manifest as decoding asks for."""

    input_side, call_sizes, points = 256, (), None

    def of_any_capacity(self):
        return self


def clicks(count: int) -> Question:
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (1, 3, 8, 8)).astype(np.float32).repeat(32, axis=2).repeat(32, axis=3)
    labels = np.array([[Label.FOREGROUND, Label.PADDING]] * count, np.float32)
    coords = np.concatenate([rng.uniform(0, 256, (count, 1, 2)), np.zeros((count, 1, 2))], axis=1).astype(np.float32)
    return Question(image, (Prompts(coords, labels, None, 256),))


def test_work_is_that_of_a_photo_and_a_click():
    sam = build_sam("nano")
    sam.set_input_side(256)
    work = Simulation(sam, [clicks(4)], AnyCapacity()).work
    stem, up = sam.image_encoder.stem.weight, sam.mask_decoder.up_8.weight
    assert work["image_encoder.stem"] == 2 * stem.numel() * 128 * 128
    assert work["mask_decoder.up_8"] == 2 * up.numel() * 16 * 16  # a transposed convolution, of each cell


def test_the_block_that_reads_a_wide_range_costs_most():
    sam = build_sam("nano")
    seed_module(sam, 3)
    sam.set_input_side(256)
    spread = torch.ones(24)
    spread[0] = 3e3  # one channel takes the range, the others are left a step or two
    with torch.no_grad():
        block = sam.image_encoder.blocks[3]
        sam.image_encoder.blocks[2].project.weight.mul_(spread[:, None, None, None])
        block.expand.weight.div_(spread[None, :, None, None])
    blocks = ["image_encoder.blocks.3", "image_encoder.blocks.8", "mask_decoder.up_8"]
    lost = Simulation(sam, [clicks(4)], AnyCapacity()).masks_lost(blocks)
    assert list(lost) == blocks
    assert lost["image_encoder.blocks.3"] > 3 * max(lost["image_encoder.blocks.8"], lost["mask_decoder.up_8"])
    assert all(0 <= share <= 1 for share in lost.values())
