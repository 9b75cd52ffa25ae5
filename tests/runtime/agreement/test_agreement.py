"""Figures and bounds of handmade records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam_edge_runtime.agreement.agreement import (
    BOUNDS,
    Agreement,
    Bounds,
    PhotoAgreement,
    PromptAgreement,
    bounds_for,
    compare_prompt,
)
from sam_edge_runtime.errors import UsageError

NAN = float("nan")
GOOD = Bounds(mask_miou=0.9, iou_prediction_error=1e-2, embedding_snr_db=40.0, logit_snr_db=40.0)


def prompt(name: str = "point", ious=(1.0, 1.0, 1.0, 1.0), rims=(1.0, 1.0, 1.0, 1.0), error: float = 0.0, snr=80.0):
    return PromptAgreement(name, tuple(ious), tuple(rims), error, snr)


def one(*, ious=(1.0, 1.0, 1.0, 1.0), error: float = 0.0, snr: float = 200.0, logits: float = 80.0) -> Agreement:
    return Agreement((PhotoAgreement("cat", snr, 1.0, (prompt(ious=ious, error=error, snr=logits),)),))


@pytest.fixture
def two_photos() -> Agreement:
    return Agreement(
        (
            PhotoAgreement(
                "cat",
                70.0,
                0.99,
                (
                    prompt("point", (1.0, 0.9, 0.8, 0.7), (0.5, 0.5, 0.5, 0.5), 1e-4),
                    prompt("box", (1.0, 1.0, 1.0, 0.4), (1.0, 1.0, 1.0, 1.0), 3e-3),
                ),
            ),
            PhotoAgreement(
                "dog", 50.0, 0.98, (prompt("mask", (1.0, 1.0, 1.0, 0.6), (0.0, 0.0, 0.0, 0.0), 2e-3, 75.0),)
            ),
        )
    )


def test_figures_are_the_mean_over_masks_and_the_worst_of_everything_else(two_photos):
    assert two_photos.mask_miou == pytest.approx((3.4 + 3.4 + 3.6) / 12)
    assert two_photos.boundary_miou == pytest.approx((2 + 4 + 0) / 12)
    assert two_photos.iou_prediction_error == 3e-3
    assert two_photos.embedding_snr_db == 50.0
    assert [(photo.photo, prompt.prompt) for photo, prompt in two_photos.prompts] == [
        ("cat", "point"),
        ("cat", "box"),
        ("dog", "mask"),
    ]
    photo, worst = two_photos.worst
    assert (photo.photo, worst.prompt) == ("cat", "box")


def test_the_summary_is_json_with_the_same_figures(two_photos):
    assert json.loads(json.dumps(two_photos.summary(), allow_nan=False)) == {
        "photos": 2,
        "prompts": 3,
        "mask_miou": pytest.approx(10.4 / 12),
        "boundary_miou": 0.5,
        "iou_prediction_error": 3e-3,
        "embedding_snr_db": 50.0,
        "logit_snr_db": 75.0,
        "worst": {"photo": "cat", "prompt": "box", "mask_iou": 0.4},
    }


# Bounds -------------------------------------------------------------------------------------------------------------


def test_a_figure_equal_to_its_bound_reaches_it():
    assert one(ious=(0.9,) * 4, error=1e-2, snr=40.0, logits=40.0).missed(GOOD) == ()


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"ious": (1.0, 1.0, 0.8, 0.7)}, "mask mIoU is 0.875000, the bound is >= 0.9 (worst: point on cat)"),
        ({"error": 0.0123}, "largest difference of an IoU prediction is 1.2e-02, the bound is <= 1e-02"),
        ({"snr": 39.94}, "embedding SNR, worst photo is 39.9 dB, the bound is >= 40 dB"),
        ({"ious": (1.0, NAN, 1.0, 1.0)}, "mask mIoU is nan, the bound is >= 0.9 (worst: point on cat)"),
        ({"error": NAN}, "largest difference of an IoU prediction is nan, the bound is <= 1e-02"),
        ({"snr": NAN}, "embedding SNR, worst photo is nan dB, the bound is >= 40 dB"),
        ({"logits": 39.94}, "mask logit SNR, worst prompt is 39.9 dB, the bound is >= 40 dB"),
        ({"logits": NAN}, "mask logit SNR, worst prompt is nan dB, the bound is >= 40 dB"),
        ({"error": float("inf")}, "largest difference of an IoU prediction is inf, the bound is <= 1e-02"),
    ],
)
def test_each_missed_bound_is_one_line(figures, message):
    assert one(**figures).missed(GOOD) == (message,)


def test_every_missed_bound_is_reported():
    lines = one(ious=(0.0,) * 4, error=1.0, snr=0.0, logits=0.0).missed(GOOD)
    assert len(lines) == 4
    assert not any("\n" in line for line in lines)


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize(
    ("figure", "word"),
    [("ious", "mask mIoU"), ("error", "IoU prediction"), ("snr", "embedding SNR"), ("logits", "logit SNR")],
)
def test_one_nan_among_good_photos_misses_its_bound(index, figure, word):
    photos = [one().photos[0]] * 3
    photos[index] = one(**{figure: (1.0, 1.0, 1.0, NAN) if figure == "ious" else NAN}).photos[0]
    (line,) = Agreement(tuple(photos)).missed(GOOD)
    assert word in line


@pytest.mark.parametrize("photos", [(), (PhotoAgreement("cat", 200.0, 1.0, ()),)], ids=["no photo", "no prompt"])
def test_an_agreement_without_prompts_is_refused(photos):
    with pytest.raises(UsageError, match=r"^nothing to compare: no photo, or no prompt that fits the decoder$"):
        Agreement(photos)


def test_the_bounds_of_fp32_onnx_are_those_documented():
    assert bounds_for("onnx", "fp32") == Bounds(
        mask_miou=0.999, iou_prediction_error=1e-3, embedding_snr_db=60.0, logit_snr_db=60.0
    )


@pytest.mark.parametrize(("target", "precision"), [("onnx", "int3"), ("coreml", "w8a16"), ("tflite", "")])
def test_a_precision_without_bounds_is_refused_with_the_choices(target, precision):
    with pytest.raises(UsageError) as caught:
        bounds_for(target, precision)
    line = str(caught.value)
    assert "\n" not in line
    assert f"target {target} at precision {precision!r}" in line
    known = [known_precision for known_target, known_precision in BOUNDS if known_target == target]
    assert line.endswith(f"choose one of {', '.join(known)}")


def test_bounds_of_an_unknown_target_are_refused_with_the_targets():
    with pytest.raises(UsageError, match="no target called 'abacus': choose one of onnx, coreml, tflite"):
        bounds_for("abacus", "fp32")


# One prompt ---------------------------------------------------------------------------------------------------------


def test_compare_prompt_measures_each_figure_on_its_own_arrays():
    full, low = np.zeros((2, 4, 20, 30), bool), np.zeros((2, 4, 8, 8), bool)
    full[0, :, :10, :10] = True
    for output in range(4):
        full[1, output, :10, : 10 - output] = True  # IoU 1, 0.9, 0.8, 0.7
    low[0, :, 2:6, 2:6] = True
    low[1, :2, 2:6, 2:6] = True  # two rims the same, two empty
    predictions = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.25, 0.3, 0.28]], np.float32)
    logits = (np.ones((4, 8, 8), np.float32), np.full((4, 8, 8), 1.01, np.float32))
    result = compare_prompt("box", tuple(full), tuple(low), tuple(predictions), logits)
    assert result.logit_snr_db == pytest.approx(40.0, abs=1e-3)
    assert result.prompt == "box"
    assert result.mask_iou == pytest.approx((1.0, 0.9, 0.8, 0.7))
    assert result.boundary_iou == (1.0, 1.0, 0.0, 0.0)
    assert result.iou_prediction_error == pytest.approx(0.12, abs=1e-6)
    assert type(result.iou_prediction_error) is float


def test_compare_prompt_returns_nan_for_nan():
    masks = np.ones((4, 8, 8), bool)
    predictions = (np.zeros(4), np.array([0, NAN, 0, 0]))
    result = compare_prompt("box", (masks, masks), (masks, masks), predictions, (np.zeros(1), np.zeros(1)))
    assert np.isnan(result.iou_prediction_error)


def test_compare_prompt_refuses_different_numbers_of_outputs():
    masks = np.ones((4, 8, 8), bool)
    with pytest.raises(ValueError, match="shorter"):
        compare_prompt("box", (masks, masks[:3]), (masks, masks), (np.zeros(4),) * 2, (np.zeros(1),) * 2)
