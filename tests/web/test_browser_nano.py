"""nano in Chromium: masks of real things by clicks, boxes and words, as the Python runtime makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam_edge_runtime import AutomaticMaskGenerator, SamPredictor, read_photo
from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.automatic import rle

from .answers import LEAST_IOU, assert_same_answers
from .browser import drive, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def nano(site, tmp_path_factory) -> dict[str, Any]:
    from sam_edge.cli.app import run

    skimage_data = pytest.importorskip("skimage.data")
    folder = tmp_path_factory.mktemp("nano")
    arguments = ["--frame", "square,4:3", "--words", "shipped"]
    assert run(["export", *arguments, "--out", str(folder / "bundle")]) == 0
    Image.fromarray(skimage_data.coffee()).save(folder / "coffee.png")
    huge = np.asarray(Image.fromarray(skimage_data.coffee()).resize((12000, 8400)))
    Image.fromarray(huge).save(folder / "huge.jpg", quality=90)
    prompts = [{"pointCoords": [[300, 150]], "pointLabels": [1]}, {"box": [150, 40, 480, 330]}]
    prompts += [{"text": "cup"}, {"text": "Dining-Table"}, {"text": "spoons", **prompts[0]}]
    large = [{"box": [3000, 800, 9600, 6600]}]
    settings = {"pointsPerSide": 16, "outputMode": "coco_rle"}
    job = {
        "bundle": "bundle/",
        "photos": [
            {"url": "../data/coffee.png", "prompts": prompts, "multimask": True},
            {"url": "../data/huge.jpg", "prompts": large, "multimask": False},
        ],
        "generate": {"url": "../data/coffee.png", "settings": settings},
        "verify": True,
    }
    runs = [{"name": "nano", "origin": "isolated", "jobs": [{**job, "options": {"threads": 2}}]}]
    predictor = SamPredictor(folder / "bundle")
    expected = []
    for photo in job["photos"]:
        predictor.set_image(read_photo(folder / Path(photo["url"]).name))
        expected.append(
            [
                predictor.predict(
                    prompt.get("pointCoords"),
                    prompt.get("pointLabels"),
                    prompt.get("box"),
                    multimask_output=photo["multimask"],
                    text=prompt.get("text"),
                )[:2]
                for prompt in photo["prompts"]
            ]
        )
    generator = AutomaticMaskGenerator(predictor, points_per_side=16, output_mode="coco_rle")
    records = generator.generate(read_photo(folder / "coffee.png"))
    driven = drive(tmp_path_factory.mktemp("run"), site, folder, runs)["nano"]
    return {"ran": driven, "expected": expected, "records": records}


@pytest.mark.slow
def test_nano_answers_as_the_python_runtime_also_on_a_photo_of_100_megapixels(nano):
    (result,) = nano["ran"]["answers"]
    assert_same_answers(result, nano["expected"])


@pytest.mark.slow
def test_nano_finds_the_same_masks_in_a_photo(nano):
    (result,) = nano["ran"]["answers"]
    found, expected = result["records"], nano["records"]
    assert len(expected) >= 3
    assert abs(len(found) - len(expected)) <= 1  # a score at a threshold may fall to either side
    pairs = [
        max(mask_iou(rle.decode(a["segmentation"]), rle.decode(b["segmentation"])) for b in found) for a in expected
    ]
    assert np.mean(np.array(pairs) >= LEAST_IOU) >= 0.9
    assert result["shares"][-1] == 1
    assert found[0].keys() == expected[0].keys()
