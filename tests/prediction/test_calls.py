"""Calls in an artifact's own form; answers that are known: asked once, told apart by weights and numbers, bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam_edge.prediction.calls import artifact_sample
from sam_edge.prediction.reference_cache import ReferenceCache
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.contract import Layout
from sam_edge_runtime.bundle.manifest import Checkpoint, Manifest


class Counting:
    """A backend that answers with its inputs' sums, and counts how often it was asked."""

    engine = "counting"

    def __init__(self) -> None:
        self.asked = 0

    def encode(self, image: Float32) -> Float32:
        self.asked += 1
        return image.sum(keepdims=True)

    def decode(self, *inputs: Float32) -> tuple[Float32, Float32]:
        self.asked += 1
        return inputs[1].sum(keepdims=True), inputs[2].sum(keepdims=True)


def manifest(weights: str) -> Manifest:
    return Manifest(
        variant="nano",
        parameters=1,
        licence="Apache-2.0",
        checkpoint=Checkpoint(weights, None, random=True),
        target="onnx",
        precision="fp32",
        recipe={},
        input_side=256,
        embedding_channels=8,
        prompts=None,
        points=None,
        encoder="encoder.onnx",
        decoder="decoder.onnx",
        files={},
        tools={},
    )


def test_the_same_question_is_asked_once_and_answered_alike() -> None:
    known, backend = ReferenceCache(), Counting()
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    first = known.behind(backend, manifest("random:0")).encode(image)
    again = known.behind(backend, manifest("random:0")).encode(image.copy())
    assert backend.asked == 1
    np.testing.assert_array_equal(first, again)


def test_an_answer_that_somebody_wrote_to_is_whole_the_next_time() -> None:
    known, backend = ReferenceCache(), Counting()
    image = np.ones((1, 3, 2, 2), np.float32)
    remembering = known.behind(backend, manifest("random:0"))
    for _ in range(3):
        found = remembering.encode(image)
        assert found.item() == 12
        found[:] = 0


@pytest.mark.parametrize("changed", range(5))
def test_any_other_input_is_another_question(changed: int) -> None:
    known, backend = ReferenceCache(), Counting()
    inputs = [np.full((1, 2), index, np.float32) for index in range(5)]
    remembering = known.behind(backend, manifest("random:0"))
    remembering.decode(*inputs)
    inputs[changed] = inputs[changed] + 1
    remembering.decode(*inputs)
    assert backend.asked == 2


def test_numbers_in_another_shape_are_another_question() -> None:
    known, backend = ReferenceCache(), Counting()
    image = np.zeros((1, 3, 2, 8), np.float32)
    remembering = known.behind(backend, manifest("random:0"))
    remembering.encode(image)
    remembering.encode(image.reshape(1, 3, 4, 4))
    assert backend.asked == 2


def test_other_weights_are_asked_themselves() -> None:
    known, backend = ReferenceCache(), Counting()
    image = np.zeros((1, 3, 2, 2), np.float32)
    known.behind(backend, manifest("random:0")).encode(image)
    known.behind(backend, manifest("random:1")).encode(image)
    assert backend.asked == 2


def test_what_exceeds_the_room_is_answered_and_not_kept() -> None:
    known, backend = ReferenceCache(room=4), Counting()
    remembering = known.behind(backend, manifest("random:0"))
    for value, asked in ((0.0, 1), (1.0, 2), (1.0, 3), (0.0, 3)):
        found = remembering.encode(np.full((1, 3, 2, 2), value, np.float32))
        assert found.item() == 12 * value
        assert backend.asked == asked


def test_an_artifact_gets_photos_and_embeddings_in_its_layout_and_the_rest_as_it_is() -> None:
    rng = np.random.default_rng(0)
    call = {
        "image_embeddings": rng.normal(size=(1, 8, 4, 5)).astype(np.float32),
        "mask_input": rng.normal(size=(2, 1, 6, 6)).astype(np.float32),
    }
    turned = artifact_sample(call, replace(manifest("random:0"), layout=Layout.NHWC))
    np.testing.assert_array_equal(turned["image_embeddings"], np.moveaxis(call["image_embeddings"], 1, -1))
    assert turned["image_embeddings"].flags.c_contiguous
    assert turned["mask_input"] is call["mask_input"]
    np.testing.assert_array_equal(Layout.NHWC.to_nchw(turned["image_embeddings"]), call["image_embeddings"])
    assert artifact_sample(call, manifest("random:0")) == call


def test_an_encoder_of_pictures_gets_whole_numbers() -> None:
    call = {"image": np.array([[[[0.4, 123.675]]]], np.float32)}
    found = artifact_sample(call, replace(manifest("random:0"), picture_input=True))
    np.testing.assert_array_equal(found["image"], [[[[0.0, 124.0]]]])
