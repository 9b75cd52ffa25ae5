"""Answers of the Python runtime, and those of a browser beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime import SamPredictor, read_photo
from sam_edge_runtime.agreement.metrics import mask_iou

from .browser import masks_of

LEAST_IOU, LARGEST_ERROR = 0.999, 1e-3
PROMPTS: list[dict[str, Any]] = [
    {"pointCoords": [[60, 40]], "pointLabels": [1]},
    {"box": [35, 18, 84, 63]},
    {"pointCoords": [[70, 45]], "pointLabels": [0], "box": [35, 18, 84, 63]},
]

Answers = list[list[tuple[np.ndarray, np.ndarray]]]


def answers_of(bundle: Path, photo: Path, prompts: list[dict[str, Any]] = PROMPTS, *, refine: bool = True) -> Answers:
    """Masks and scores of the Python runtime, for both photos of a job."""
    predictor = SamPredictor(bundle)
    predictor.set_image(read_photo(photo))
    several, refined = [], []
    for prompt in prompts:
        asked = (prompt.get("pointCoords"), prompt.get("pointLabels"), prompt.get("box"))
        several.append(predictor.predict(*asked, text=prompt.get("text"))[:2])
        if not refine:
            continue
        _, _, low_res = predictor.predict(*asked, multimask_output=False)
        refined.append(predictor.predict(*asked, mask_input=low_res, multimask_output=False)[:2])
    return [several, refined]


def assert_same_answers(result: dict[str, Any], expected) -> None:
    assert "error" not in result, result["error"]
    for answers, photo in zip(result["answers"], expected, strict=True):
        for answer, (masks, scores) in zip(answers, photo, strict=True):
            assert np.abs(np.array(answer["scores"]) - scores).max() <= LARGEST_ERROR
            assert min(map(mask_iou, masks_of(answer), masks)) >= LEAST_IOU
    assert result["verification"]["passed"], result["verification"]
    assert result["progress"]["loaded"] == result["progress"]["total"] > 1000
