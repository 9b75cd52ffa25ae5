"""The search, on networks whose every mixture has a known accuracy and time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sam_edge.quantization.mixed_precision.blocks import blocks_of
from sam_edge.quantization.mixed_precision.configuration import EIGHT, FLOAT, WEIGHTS, Measured, find_mixture

ENCODER = [f"image_encoder.blocks.{index}" for index in range(6)]
DECODER = ["mask_decoder.up", "mask_decoder.refine"]
BLOCKS = [*ENCODER, *DECODER]


class Network:
    """Blocks lose masks and save time independently."""

    def __init__(
        self, lost: Mapping[str, float], saved: Mapping[str, float] | None = None, in_weights: float = 0.0
    ) -> None:
        self.lost, self.saved, self.in_weights = lost, saved, in_weights
        self.work = dict.fromkeys(BLOCKS, 1e6)
        self.asked: list[dict[str, str]] = []
        self.simulated = 0

    def measure(self, schemes: Mapping[str, str]) -> Measured:
        self.asked.append(dict(schemes))
        lost = sum(self.lost.get(block, 0.0) for block, scheme in schemes.items() if scheme == EIGHT)
        lost += self.in_weights * sum(scheme != FLOAT for scheme in schemes.values())
        if self.saved is None:
            return Measured(1.0 - lost)
        share = {
            graph: 1.0 - sum(self.saved.get(block, 0.0) for block in part if schemes[block] == EIGHT)
            for graph, part in (("encoder", ENCODER), ("decoder", DECODER))
        }
        return Measured(1.0 - lost, share["encoder"], share["decoder"], 0.8 * share["encoder"] + 0.2 * share["decoder"])

    def measure_quietly(self, schemes: Mapping[str, str]) -> float:
        found = self.measure(schemes).mask_miou
        self.asked.pop()
        return found

    def find(self, bound: float = 0.98, most: int = 1000):
        out_of_time = lambda: len(self.asked) >= most  # noqa: E731
        return find_mixture(
            BLOCKS, self.measure, lambda: self.lost, lambda: self.work, self.simulate, bound, out_of_time
        )

    def simulate(self, schemes: Mapping[str, str]) -> float:
        """A guess that knows nothing of what weights cost."""
        self.simulated += 1
        return 1.0 - sum(self.lost.get(block, 0.0) for block, scheme in schemes.items() if scheme == EIGHT)


def test_where_everything_in_eight_bits_holds_nothing_else_is_tried():
    network = Network({"image_encoder.blocks.0": 0.01})
    found = network.find()
    assert found.reached
    assert found.complete
    assert set(found.schemes.values()) == {EIGHT}
    assert len(network.asked) == 1


def test_the_fewest_blocks_are_relaxed_worst_first():
    lost = dict(zip(ENCODER, (0.03, 0.001, 0.02, 0.001, 0.001, 0.015), strict=True))
    found = Network(lost).find()
    assert found.reached
    assert {block for block, scheme in found.schemes.items() if scheme == WEIGHTS} == {ENCODER[0], ENCODER[2]}
    assert found.measured.mask_miou == pytest.approx(0.982)
    assert found.evidence["blocks"][ENCODER[0]] == {"scheme": "w8", "masks_lost_alone": 0.03}


def test_of_blocks_that_lose_as_much_those_that_save_least_are_relaxed():
    network = Network(dict.fromkeys(BLOCKS, 0.004), {**dict.fromkeys(ENCODER, 0.08), **dict.fromkeys(DECODER, 0.1)})
    network.work[ENCODER[1]] = 1e5
    found = network.find()
    assert {block for block, scheme in found.schemes.items() if scheme == WEIGHTS} == {ENCODER[1], *DECODER}


def test_the_simulation_says_where_to_begin():
    network = Network(dict.fromkeys(ENCODER, 0.01))
    assert network.find().reached
    assert list(network.asked[1].values()).count(WEIGHTS) == 4  # 2 and 3 would not do, and none of them was measured
    assert list(network.asked[2].values()).count(WEIGHTS) == 2
    assert network.simulated == 3


def test_a_simulation_that_is_too_hopeful_is_put_right():
    network = Network(dict.fromkeys(ENCODER, 0.01))
    network.simulate = lambda schemes: 1.0
    found = network.find()
    assert found.reached
    assert list(found.schemes.values()).count(WEIGHTS) == 4


def test_a_simulation_that_is_too_hopeful_by_as_much_everywhere_is_wrong_once():
    lost = dict(zip(ENCODER, (0.03, 0.02, 0.012, 0.012, 0.012, 0.012), strict=True))
    network = Network(lost)
    network.simulate = lambda schemes: 0.03 + network.measure_quietly(schemes)
    assert network.find().reached
    assert [list(asked.values()).count(WEIGHTS) for asked in network.asked[:3]] == [0, 2, 6]


def test_weights_alone_may_be_too_much_and_then_blocks_stay_in_float():
    network = Network({ENCODER[3]: 0.01}, in_weights=0.004)
    found = network.find()
    assert found.reached
    assert list(found.schemes.values()).count(FLOAT) == 3
    assert found.schemes[ENCODER[3]] == FLOAT


def test_a_bound_that_nothing_reaches_leaves_the_truest():
    found = Network({ENCODER[0]: 0.5}, in_weights=0.1).find(bound=0.95)
    assert not found.reached
    assert found.measured.mask_miou == pytest.approx(0.9)
    assert list(found.schemes.values()).count(FLOAT) == len(BLOCKS) - 1


def test_a_graph_that_became_slower_and_blocks_that_cost_time_are_relaxed():
    saved = {**dict.fromkeys(ENCODER, 0.08), ENCODER[4]: -0.1, DECODER[0]: 0.1, DECODER[1]: -0.4}
    network = Network({}, saved)
    found = network.find()
    assert [network.asked[1][block] for block in DECODER] == [WEIGHTS, WEIGHTS]
    assert {block for block, scheme in found.schemes.items() if scheme == WEIGHTS} == {ENCODER[4], *DECODER}
    assert found.measured.encoder == pytest.approx(0.6)
    assert found.evidence["blocks"][ENCODER[0]]["click_saved"] == pytest.approx(0.064)


def test_a_gain_within_the_noise_changes_nothing():
    saved = {**dict.fromkeys(ENCODER, 0.08), ENCODER[4]: -0.005}
    assert set(Network({}, saved).find().schemes.values()) == {EIGHT}


@pytest.mark.parametrize("most", [1, 2])
def test_what_is_returned_when_time_is_up_was_measured(most):
    lost = dict(zip(ENCODER, (0.03, 0.001, 0.02, 0.001, 0.001, 0.015), strict=True))
    network = Network(lost)
    found = network.find(most=most)
    assert not found.complete
    assert len(network.asked) == most
    assert dict(found.schemes) in network.asked
    assert found.reached == (found.measured.mask_miou >= 0.98) == (most > 1)
    assert len(found.evidence["tried"]) == most


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
