"""The search, on networks whose every configuration has a known accuracy and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from sam_edge.evaluation.paired import PairedLoss
from sam_edge.quantization.mixed_precision.blocks import blocks_of
from sam_edge.quantization.mixed_precision.configuration import (
    FP32,
    W8,
    W8A8,
    SearchResult,
    find_configuration,
)
from sam_edge.quantization.mixed_precision.goals import AgreementGoal, HumanGoal, Measurement

ENCODER = [f"image_encoder.blocks.{index}" for index in range(6)]
DECODER = ["mask_decoder.up", "mask_decoder.refine"]
BLOCKS = [*ENCODER, *DECODER]


class Network:
    """Trials and simulator of a network whose blocks lose masks and save time independently."""

    def __init__(
        self, lost: Mapping[str, float], saved: Mapping[str, float] | None = None, lost_by_weights: float = 0.0
    ) -> None:
        self.lost, self.saved, self.lost_by_weights = lost, saved, lost_by_weights
        self.work = dict.fromkeys(BLOCKS, 1e6)
        self.measured: list[dict[str, str]] = []
        self.most_trials = 1000
        self.simulations = 0

    def measure(self, schemes: Mapping[str, str]) -> Measurement:
        self.measured.append(dict(schemes))
        mask_miou = self.true_miou(schemes)
        if self.saved is None:
            return Measurement(mask_miou)
        time = {
            graph: 1.0 - sum(self.saved.get(block, 0.0) for block in part if schemes[block] == W8A8)
            for graph, part in (("encoder", ENCODER), ("decoder", DECODER))
        }
        return Measurement(mask_miou, time["encoder"], time["decoder"], 0.8 * time["encoder"] + 0.2 * time["decoder"])

    def out_of_time(self) -> bool:
        return len(self.measured) >= self.most_trials

    def true_miou(self, schemes: Mapping[str, str]) -> float:
        lost = sum(self.lost.get(block, 0.0) for block, scheme in schemes.items() if scheme == W8A8)
        return 1.0 - lost - self.lost_by_weights * sum(scheme != FP32 for scheme in schemes.values())

    def masks_lost(self) -> Mapping[str, float]:
        return self.lost

    def operations(self) -> Mapping[str, float]:
        return self.work

    def mask_miou(self, schemes: Mapping[str, str]) -> float:
        """An estimate that ignores what rounded weights lose."""
        self.simulations += 1
        return 1.0 - sum(self.lost.get(block, 0.0) for block, scheme in schemes.items() if scheme == W8A8)

    def find(self, bound: float = 0.98) -> SearchResult:
        return find_configuration(BLOCKS, self, self, AgreementGoal(bound))


def test_if_w8a8_everywhere_holds_the_bound_nothing_else_is_tried():
    network = Network({"image_encoder.blocks.0": 0.01})
    result = network.find()
    assert result.reached
    assert result.complete
    assert set(result.schemes.values()) == {W8A8}
    assert len(network.measured) == 1


def test_the_fewest_blocks_are_relaxed_worst_first():
    lost = dict(zip(ENCODER, (0.03, 0.001, 0.02, 0.001, 0.001, 0.015), strict=True))
    result = Network(lost).find()
    assert result.reached
    assert {block for block, scheme in result.schemes.items() if scheme == W8} == {ENCODER[0], ENCODER[2]}
    assert result.measurement.mask_miou == pytest.approx(0.982)
    assert result.evidence["blocks"][ENCODER[0]] == {"scheme": "w8", "masks_lost_alone": 0.03}


def test_of_blocks_that_lose_as_much_those_that_save_least_are_relaxed():
    network = Network(dict.fromkeys(BLOCKS, 0.004), {**dict.fromkeys(ENCODER, 0.08), **dict.fromkeys(DECODER, 0.1)})
    network.work[ENCODER[1]] = 1e5
    result = network.find()
    assert {block for block, scheme in result.schemes.items() if scheme == W8} == {ENCODER[1], *DECODER}


def test_the_simulation_decides_how_many_blocks_are_relaxed_first():
    network = Network(dict.fromkeys(ENCODER, 0.01))
    assert network.find().reached
    assert list(network.measured[1].values()).count(W8) == 4  # 2 and 3 are not enough, and neither was measured
    assert list(network.measured[2].values()).count(W8) == 2
    assert network.simulations == 3


def test_an_optimistic_simulation_is_corrected():
    network = Network(dict.fromkeys(ENCODER, 0.01))
    network.mask_miou = lambda schemes: 1.0
    result = network.find()
    assert result.reached
    assert list(result.schemes.values()).count(W8) == 4


def test_a_simulation_with_a_constant_error_is_corrected_once():
    lost = dict(zip(ENCODER, (0.03, 0.02, 0.012, 0.012, 0.012, 0.012), strict=True))
    network = Network(lost)
    network.mask_miou = lambda schemes: 0.03 + network.true_miou(schemes)
    assert network.find().reached
    assert [list(schemes.values()).count(W8) for schemes in network.measured[:3]] == [0, 2, 6]


def test_if_w8_everywhere_is_not_enough_blocks_stay_in_fp32():
    network = Network({ENCODER[3]: 0.01}, lost_by_weights=0.004)
    result = network.find()
    assert result.reached
    assert list(result.schemes.values()).count(FP32) == 3
    assert result.schemes[ENCODER[3]] == FP32


def test_if_nothing_reaches_the_bound_the_most_accurate_is_returned():
    result = Network({ENCODER[0]: 0.5}, lost_by_weights=0.1).find(bound=0.95)
    assert not result.reached
    assert result.measurement.mask_miou == pytest.approx(0.9)
    assert list(result.schemes.values()).count(FP32) == len(BLOCKS) - 1


def test_a_graph_that_became_slower_and_blocks_that_cost_time_are_relaxed():
    saved = {**dict.fromkeys(ENCODER, 0.08), ENCODER[4]: -0.1, DECODER[0]: 0.1, DECODER[1]: -0.4}
    network = Network({}, saved)
    result = network.find()
    assert [network.measured[1][block] for block in DECODER] == [W8, W8]
    assert {block for block, scheme in result.schemes.items() if scheme == W8} == {ENCODER[4], *DECODER}
    assert result.measurement.encoder == pytest.approx(0.6)
    assert result.evidence["blocks"][ENCODER[0]]["click_saved"] == pytest.approx(0.064)


def test_a_gain_within_the_noise_changes_nothing():
    saved = {**dict.fromkeys(ENCODER, 0.08), ENCODER[4]: -0.005}
    assert set(Network({}, saved).find().schemes.values()) == {W8A8}


@pytest.mark.parametrize("most", [1, 2])
def test_the_result_was_measured_even_if_time_is_up(most):
    lost = dict(zip(ENCODER, (0.03, 0.001, 0.02, 0.001, 0.001, 0.015), strict=True))
    network = Network(lost)
    network.most_trials = most
    result = network.find()
    assert not result.complete
    assert len(network.measured) == most
    assert dict(result.schemes) in network.measured
    assert result.reached == (result.measurement.mask_miou >= 0.98) == (most > 1)
    assert len(result.evidence["tried"]) == most
    assert (network.simulations == 0) == (most == 1)  # a simulation takes minutes, and no trial could follow it


def test_blocks_are_the_first_numbered_parts_of_names():
    names = [
        "image_encoder.stem",
        "image_encoder.blocks.3.expand",
        "image_encoder.blocks.3.project",
        "image_encoder.layers.1.blocks.0.attn.qkv",
        "image_encoder.layers.1.downsample.conv1.c",
        "mask_decoder.transformer.layers.0.mlp.lin1",
        "mask_decoder.transformer.final_attn_token_to_image.q_proj",
    ]
    assert blocks_of(names) == (
        "image_encoder.stem",
        "image_encoder.blocks.3",
        "image_encoder.layers.1.blocks.0",
        "image_encoder.layers.1",
        "mask_decoder.transformer.layers.0",
        "mask_decoder.transformer",
    )


class LabelledNetwork(Network):
    """A network that also loses a tenth of its changed masks in the eyes of people."""

    share = 0.1

    def measure(self, schemes: Mapping[str, str]) -> Measurement:
        measured = super().measure(schemes)
        lost = self.share * (1.0 - measured.mask_miou)
        human = PairedLoss(0.6, 0.6 - lost, lost, lost - 0.002, lost + 0.002, 0.95, 40, 300)
        return replace(measured, human=human)

    def find_for_people(self, loss: float, *, certain: bool = False) -> SearchResult:
        return find_configuration(BLOCKS, self, self, HumanGoal(loss, certain=certain))


def test_human_masks_decide_instead_of_the_agreement_with_fp32():
    network = LabelledNetwork({ENCODER[0]: 0.04})
    result = network.find_for_people(0.005)
    assert result.reached
    assert set(result.schemes.values()) == {W8A8}
    assert result.measurement.mask_miou == pytest.approx(0.96)
    assert result.evidence["tried"][0]["human_loss"] == pytest.approx(0.004)
    assert result.evidence["loss"] == 0.005
    assert "bound" not in result.evidence


def test_a_loss_that_is_too_large_relaxes_the_fewest_blocks():
    lost = dict(zip(ENCODER, (0.03, 0.001, 0.02, 0.001, 0.001, 0.015), strict=True))
    network = LabelledNetwork(lost)
    result = network.find_for_people(0.002)
    assert result.reached
    assert {block for block, scheme in result.schemes.items() if scheme == W8} == {ENCODER[0], ENCODER[2]}
    assert len(network.measured) == 3  # everything, two blocks as the proportion says, one block


def test_with_a_confidence_the_whole_interval_has_to_be_within_the_loss():
    network = LabelledNetwork({ENCODER[0]: 0.04})
    result = network.find_for_people(0.005, certain=True)
    assert result.reached
    assert result.schemes[ENCODER[0]] == W8
    impossible = LabelledNetwork({ENCODER[0]: 0.04}).find_for_people(0.001, certain=True)
    assert not impossible.reached
    said = HumanGoal(0.001, certain=True).shortfall(impossible.measurement)
    assert "about 160 photos with masks would be needed" in said


def test_of_configurations_that_lose_too_much_the_one_that_loses_least_is_kept():
    network = LabelledNetwork({ENCODER[0]: 0.02}, lost_by_weights=0.01)
    network.most_trials = 3
    result = network.find_for_people(1e-6)
    assert not result.reached
    assert result.schemes[ENCODER[0]] == W8
    assert result.measurement.human.loss == pytest.approx(0.008)  # 0.01 with all blocks in w8a8
    assert "raise --loss" in HumanGoal(1e-6).shortfall(result.measurement)
