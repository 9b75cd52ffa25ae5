"""neural-compressor's `autotune` as a driver: its configurations are ours, and it stops where it says it does."""

from __future__ import annotations

import pytest

pytest.importorskip("neural_compressor", reason="an extra, which Python 3.10 has not")

from sam_edge.quantization.mixed_precision.configuration import FP32, W8, W8A8
from sam_edge.quantization.mixed_precision.goals import AgreementGoal, HumanGoal
from sam_edge.quantization.neural_compressor.tuner import ArtifactConfig, config_of, find_configuration, schemes_of
from tests.quantization.mixed_precision.test_configuration import (
    BLOCKS,
    DECODER,
    ENCODER,
    LabelledNetwork,
    Network,
)


def test_its_configuration_and_ours_say_the_same():
    schemes = {**dict.fromkeys(BLOCKS, W8A8), ENCODER[2]: W8, DECODER[0]: FP32}
    config = config_of(schemes)
    assert isinstance(config, ArtifactConfig)
    assert config.local_config[ENCODER[2]].act_dtype == "fp32"
    assert config.to_dict()["local"][DECODER[0]]["w_dtype"] == "fp32"
    assert schemes_of(config, BLOCKS) == schemes


def test_it_stops_at_the_first_configuration_within_the_bound():
    network = Network({})
    result = find_configuration(BLOCKS, network, network, AgreementGoal(0.98))
    assert result.reached
    assert result.complete
    assert len(network.measured) == 1
    assert result.evidence["tuner"].startswith("neural-compressor 3.")


def test_blocks_are_relaxed_in_the_order_of_the_masks_that_they_lose(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    lost = dict(zip(ENCODER, (0.03, 0.001, 0.02, 0.001, 0.001, 0.015), strict=True))
    network = Network(lost)
    result = find_configuration(BLOCKS, network, network, AgreementGoal(0.98))
    assert result.reached
    assert {block for block, scheme in result.schemes.items() if scheme == W8} == {ENCODER[0], ENCODER[2]}
    # Everything; the decoder; one block; two blocks.
    assert [list(schemes.values()).count(W8) for schemes in network.measured] == [0, 2, 1, 2]
    assert list(tmp_path.iterdir()) == []  # the package writes no files of its own
    assert capfd.readouterr() == ("", "")


def test_blocks_stay_in_fp32_where_rounded_weights_are_not_enough():
    network = Network({}, lost_by_weights=0.004)
    result = find_configuration(BLOCKS, network, network, AgreementGoal(0.98))
    assert result.reached
    assert list(result.schemes.values()).count(FP32) == 3
    assert set(result.schemes.values()) == {FP32, W8}


def test_human_masks_decide_for_it_too():
    network = LabelledNetwork({ENCODER[0]: 0.04, ENCODER[1]: 0.02})
    result = find_configuration(BLOCKS, network, network, HumanGoal(0.0021))
    assert result.reached
    assert {block for block, scheme in result.schemes.items() if scheme != W8A8} == {ENCODER[0]}


def test_a_loss_that_misses_the_goal_by_a_rounding_error_does_not_end_it():
    network = LabelledNetwork({ENCODER[0]: 0.04, ENCODER[1]: 0.02})
    result = find_configuration(BLOCKS, network, network, HumanGoal(0.002))  # 0.002 + 4e-19 is measured
    assert result.reached
    assert {block for block, scheme in result.schemes.items() if scheme != W8A8} == {ENCODER[0], ENCODER[1]}


def test_it_ends_with_its_best_when_time_is_up():
    network = Network(dict.fromkeys(BLOCKS, 0.01))
    network.most_trials = 4
    result = find_configuration(BLOCKS, network, network, AgreementGoal(0.98))
    assert not result.complete
    assert not result.reached
    assert len(network.measured) == 4
    assert result.measurement.mask_miou == max(each["mask_miou"] for each in result.evidence["tried"])


def test_a_bound_that_nothing_reaches_ends_the_set():
    network = Network({}, lost_by_weights=0.1)
    network.true_miou = lambda schemes: 0.5
    result = find_configuration(BLOCKS, network, network, AgreementGoal(0.98))
    assert result.complete
    assert not result.reached
