"""Average precision and recall against pycocotools' own summary and the `lvis` package, and by hand."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam_edge.evaluation.average_precision import BOXES, average_precision, average_recall, is_federated
from sam_edge.evaluation.coco_categories import COCO_NUMBERS, category_numbers
from tests.data.builders import rle_of

SIZE = (140, 160)
FREQUENCY = {1: "r", 2: "c", 3: "f", 4: "f"}


def rectangle(x: int, y: int, w: int, h: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y : y + h, x : x + w] = True
    return mask


def annotation(number: int, image: int, category: int, mask: np.ndarray) -> dict:
    rle = rle_of(mask)
    box = [float(each) for each in coco.toBbox(rle)]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": rle,
        "area": int(mask.sum()),
        "bbox": box,
        "iscrowd": 0,
    }


def scene(seed: int, *, federated: bool, photos: int = 6) -> tuple[dict, list[dict]]:
    """Rectangles of four categories in several sizes, and results that are off by a few pixels, missing or invented."""
    draw = np.random.default_rng(seed)
    annotations, results = [], []
    images = [{"id": 10 + place, "height": SIZE[0], "width": SIZE[1]} for place in range(photos)]
    for image in images:
        if federated:
            image |= {"neg_category_ids": [1, 2], "not_exhaustive_category_ids": [int(draw.integers(3, 5))]}
        for _ in range(int(draw.integers(3, 7))):
            w, h = (int(each) for each in draw.choice([12, 40, 110], 2))
            x, y = int(draw.integers(0, SIZE[1] - w)), int(draw.integers(0, SIZE[0] - h))
            category = int(draw.integers(1, 5))
            annotations.append(annotation(len(annotations) + 1, image["id"], category, rectangle(x, y, w, h)))
            for _ in range(int(draw.integers(0, 3))):
                shift = draw.integers(-4, 5, 2)
                mask = rectangle(max(0, x + int(shift[0])), max(0, y + int(shift[1])), w, h)
                wrong = draw.random() < 0.3
                results.append(
                    {
                        "image_id": image["id"],
                        "category_id": int(draw.integers(1, 5)) if wrong else category,
                        "segmentation": rle_of(mask),
                        "score": float(draw.random()),
                    }
                )
    categories = [
        {"id": number, "name": f"c{number}", **({"frequency": sign} if federated else {})}
        for number, sign in FREQUENCY.items()
    ]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def summary(truth: dict, results: list[dict], **params: object) -> np.ndarray:
    """The twelve figures that pycocotools prints."""
    with redirect_stdout(io.StringIO()):
        human = COCO()
        human.dataset = truth
        human.createIndex()
        evaluator = COCOeval(human, human.loadRes([dict(each) for each in results]), "segm")
        for name, value in params.items():
            setattr(evaluator.params, name, value)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats


def test_cocos_figures_are_those_that_pycocotools_prints():
    truth, results = scene(0, federated=False)
    figures = average_precision(truth, results)
    assert list(figures) == ["AP", "AP50", "AP75", "AP small", "AP medium", "AP large"]
    np.testing.assert_allclose(list(figures.values()), summary(truth, results)[:6], atol=1e-12)
    assert 0.1 < figures["AP"] < 0.9


def test_recall_is_that_of_pycocotools_without_categories():
    truth, results = scene(1, federated=False)
    found = average_recall(truth, results)
    wanted = summary(truth, results, useCats=0, maxDets=[1, 10, 1000])
    np.testing.assert_allclose(list(found.values()), wanted[8:12], atol=1e-12)


def test_recall_by_frequency_is_against_the_masks_of_those_categories_alone():
    truth, results = scene(2, federated=True)
    found = average_recall(truth, results)
    assert list(found) == ["all", "small", "medium", "large", "frequent", "common", "rare"]
    rare = [each for each in truth["annotations"] if each["category_id"] == 1]
    wanted = summary({**truth, "annotations": rare}, results, useCats=0, maxDets=[1, 10, 1000])
    assert found["rare"] == pytest.approx(wanted[8])


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")  # inside lvis
@pytest.mark.parametrize("seed", range(4))
def test_lviss_figures_are_those_of_the_lvis_package(seed, monkeypatch):
    lvis = pytest.importorskip("lvis", reason="the lvis package is not installed")
    monkeypatch.setattr(np, "float", float, raising=False)  # its last release needs numpy before 1.24
    truth, results = scene(seed, federated=True)
    human = lvis.LVIS.__new__(lvis.LVIS)
    human.logger = __import__("logging").getLogger("lvis")
    human.dataset = truth
    human._create_index()
    evaluator = lvis.LVISEval(human, lvis.LVISResults(human, [dict(each) for each in results]), "segm")
    evaluator.run()
    names = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "AP small": "APs", "AP medium": "APm", "AP large": "APl"}
    names |= {"AP rare": "APr", "AP common": "APc", "AP frequent": "APf"}
    figures = average_precision(truth, results)
    assert {name: figures[name] for name in names} == pytest.approx({n: evaluator.results[v] for n, v in names.items()})


def test_only_categories_that_a_photo_was_annotated_for_count():
    truth, _ = scene(0, federated=True, photos=1)
    image = truth["images"][0]
    image |= {"neg_category_ids": [2], "not_exhaustive_category_ids": [3]}
    truth["annotations"] = [
        annotation(1, 10, 1, rectangle(0, 0, 50, 50)),
        annotation(2, 10, 3, rectangle(60, 60, 40, 40)),
    ]
    right = [
        {"image_id": 10, "category_id": 1, "segmentation": rle_of(rectangle(0, 0, 50, 50)), "score": 0.5},
        {"image_id": 10, "category_id": 3, "segmentation": rle_of(rectangle(60, 60, 40, 40)), "score": 0.5},
    ]
    nothing = rle_of(rectangle(100, 0, 30, 30))

    def ap(category: int) -> float | None:
        more = {"image_id": 10, "category_id": category, "segmentation": nothing, "score": 0.9}
        return average_precision(truth, [*right, more])["AP"]

    assert is_federated(truth)
    assert ap(4) == pytest.approx(1.0)  # nobody looked for it: left out
    assert ap(3) == pytest.approx(1.0)  # some of its instances may be missing: no error
    assert ap(1) == pytest.approx(0.75)  # an error before the right one: 0.5 of that category
    figures = average_precision(truth, right)
    wanted = [pytest.approx(1.0), None, pytest.approx(1.0)]
    assert [figures[f"AP {name}"] for name in ("rare", "common", "frequent")] == wanted


def test_boxes_are_measured_by_their_boxes_and_no_results_give_zero():
    truth, _ = scene(3, federated=False)
    boxes = [
        {name: each[name] for name in ("image_id", "category_id", "bbox")} | {"score": 1.0}
        for each in truth["annotations"]
    ]
    assert average_precision(truth, boxes, BOXES)["AP"] == pytest.approx(1.0)
    assert average_precision(truth, [])["AP"] == 0.0
    assert average_recall(truth, [])["all"] == 0.0


def test_categories_have_cocos_numbers_if_all_are_cocos():
    assert len(COCO_NUMBERS) == 80
    assert category_numbers(["toothbrush", "person", "stop sign"]) == {"person": 1, "stop sign": 13, "toothbrush": 90}
    assert category_numbers(["skin", "person"]) == {"person": 1, "skin": 2}
