"""Figures that can be computed by hand: a stand-in model with known masks, baselines, and the command."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_edge.cli.app import run
from sam_edge.data.sample import Sample
from sam_edge.evaluation.baselines import box_mask, ellipse_mask, grabcut_mask
from sam_edge.evaluation.figures import Figures, clicks_needed, clustered_error, correlation, figures_of
from sam_edge.evaluation.measure import OutputScores, Protocol, measure_photo, tight_box
from sam_edge.evaluation.report import random_masks
from sam_edge.evaluation.sources import short_name
from sam_edge.prediction.promptable import AnyCapacity
from sam_edge.prompting.clicks import first_click
from sam_edge_runtime.arrays import Decoded, Features
from sam_edge_runtime.bundle.contract import FrameSize, Label
from sam_edge_runtime.errors import UsageError
from tests.data.builders import encoded, picture, record, rle_of, write_tar
from tests.data.real import real_data

SIDE = 256
CELLS = SIDE // 4


def block(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """A mask of the frame's size, aligned with low-resolution pixels, which the map to the photo does not change."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y0:y1, x0:x1] = True
    return mask


TARGETS = np.stack([block(32, 64, 160, 192), block(128, 32, 224, 96)])


def sample(masks: np.ndarray = TARGETS) -> Sample:
    photo = np.full((SIDE, SIDE, 3), 90, np.uint8)
    return Sample(photo, tuple(rle_of(mask) for mask in masks), "folder/a.tar", "sa_1")


def logits_of(mask: np.ndarray) -> np.ndarray:
    """Low-resolution logits whose thresholded enlargement is close to `mask`."""
    return np.where(mask.reshape(CELLS, 4, CELLS, 4).mean(axis=(1, 3)) > 0.5, 8.0, -8.0).astype(np.float32)


@dataclass
class Standin:
    """Gives the same four masks for every prompt; the predicted IoU of output k is `ratings[k]`."""

    masks: np.ndarray  # (4, S, S)
    ratings: tuple[float, float, float, float] = (0.1, 0.2, 0.9, 0.3)

    def __post_init__(self) -> None:
        self.calls: list[tuple[np.ndarray, ...]] = []

    def encode(self, image: np.ndarray) -> Features:
        return (np.zeros((1, 8, SIDE // 16, SIDE // 16), np.float32),)

    def decode(self, *inputs: np.ndarray) -> Decoded:
        self.calls.append(inputs)
        count = len(inputs[1])
        low_res = np.stack([logits_of(mask) for mask in self.masks])
        return Decoded(np.tile(low_res, (count, 1, 1, 1)), np.tile(np.array(self.ratings, np.float32), (count, 1)))


def exact(mask: np.ndarray, target: np.ndarray) -> float:
    return (mask & target).sum() / (mask | target).sum()


def measured(standin: Standin, masks: np.ndarray = TARGETS[:1], clicks: int = 2):
    return measure_photo(
        standin, AnyCapacity((FrameSize.square(SIDE),)), sample(masks), Protocol(clicks, grabcut=False)
    )


class TestMeasurement:
    def test_each_output_is_compared_with_the_human_mask(self):
        masks = np.stack([TARGETS[0], block(32, 64, 96, 192), block(32, 64, 160, 128), block(0, 0, 16, 16)])
        found = measured(Standin(masks))
        np.testing.assert_allclose(found.box.ious[0], [1.0, 0.5, 0.5, 0.0], atol=0.02)
        assert found.box.single[0] == pytest.approx(found.box.ious[0, 0])
        assert found.box.chosen[0] == 2  # the highest rating of outputs 1..3
        assert found.box.choice[0] == pytest.approx(found.box.ious[0, 2])
        assert found.box.oracle[0] == pytest.approx(found.box.ious[0, 1:].max())
        assert found.areas.tolist() == [int(TARGETS[0].sum())]

    def test_boxes_include_their_last_pixels(self):
        standin = Standin(np.stack([TARGETS[0]] * 4))
        measured(standin)
        _, coords, labels, _, _ = standin.calls[0]
        assert labels[0].tolist() == [Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT]
        np.testing.assert_allclose(coords[0], [[32, 64], [159, 191]])
        assert tight_box(TARGETS[1]) == (128, 32, 223, 95)

    def test_clicks_follow_the_protocol_and_the_shown_mask_is_the_next_prompt(self):
        half = block(32, 64, 96, 192)  # the left half of the target: the right one is missing
        standin = Standin(np.stack([block(0, 0, 16, 16), TARGETS[1], half, TARGETS[1]]))
        measured(standin, clicks=2)
        first, second = standin.calls[1], standin.calls[2]
        start = first_click(TARGETS[0])
        assert first[1][0, 0].tolist() == [start.x, start.y]
        assert first[4].tolist() == [0.0]
        # After the first click output 2 is shown, which has the highest predicted IoU. Its error is the right half.
        np.testing.assert_array_equal(second[3][0, 0], logits_of(half))
        assert second[4].tolist() == [1.0]
        coords, labels = second[1][0], second[2][0]
        assert labels[:2].tolist() == [1.0, 1.0]
        assert 96 <= coords[1, 0] < 160
        assert 64 <= coords[1, 1] < 192

    def test_a_mask_without_error_gets_no_further_click(self):
        standin = Standin(np.stack([block(0, 0, 16, 16), TARGETS[1], TARGETS[0], TARGETS[1]]))
        found = measured(standin, clicks=3)
        perfect = found.shown[0, 0]
        if perfect == 1.0:  # no error left: no further click, and the mask stays
            assert found.shown[:, 0].tolist() == [1.0, 1.0, 1.0]
        else:  # corners are rounded by the map to the photo
            assert perfect > 0.98

    def test_masks_of_a_photo_share_decoder_calls(self):
        standin = Standin(np.stack([TARGETS[0]] * 4))
        found = measured(standin, TARGETS, clicks=1)
        assert [len(call[1]) for call in standin.calls] == [2, 2]
        assert found.box.single[0] > 0.98
        assert found.box.single[1] == pytest.approx(exact(TARGETS[0], TARGETS[1]), abs=0.02)


class TestBaselines:
    def test_areas_of_box_and_ellipse(self):
        size, box = (200, 300), (20, 30, 219, 129)
        assert box_mask(size, box).sum() == 200 * 100
        assert ellipse_mask(size, box).sum() == pytest.approx(np.pi * 100 * 50, rel=2e-3)
        assert exact(ellipse_mask(size, box), box_mask(size, box)) == pytest.approx(np.pi / 4, rel=2e-3)

    def test_grabcut_finds_a_distinct_object_and_is_deterministic(self):
        pytest.importorskip("cv2")
        photo = np.random.default_rng(0).integers(0, 40, (80, 100, 3)).astype(np.uint8)
        target = np.zeros((80, 100), bool)
        target[20:50, 30:70] = True
        photo[target] += 180
        found = grabcut_mask(photo, (25, 15, 75, 55))
        assert exact(found, target) > 0.95
        np.testing.assert_array_equal(found, grabcut_mask(photo, (25, 15, 75, 55)))
        assert grabcut_mask(photo, (0, 0, 99, 79)).all()


class TestFigures:
    def test_clicks_needed_counts_from_one_and_ends_at_all(self):
        shown = np.array([[0.5, 0.9, 0.1], [0.85, 0.2, 0.2], [0.9, 0.9, 0.3]])
        assert clicks_needed(shown, 0.8) == pytest.approx((2 + 1 + 3) / 3)

    def test_correlation(self):
        a = np.array([0.0, 1.0, 2.0])
        assert correlation(a, 3 * a + 1) == pytest.approx(1.0)
        assert correlation(a, np.ones(3)) is None

    def test_means_are_over_masks_of_all_photos(self):
        one = measured(Standin(np.stack([TARGETS[0]] * 4)), TARGETS, clicks=2)
        two = measured(Standin(np.stack([TARGETS[0]] * 4)), TARGETS[:1], clicks=2)
        figures: Figures = figures_of("x", [one, two])
        every = np.concatenate([one.box.single, two.box.single])
        assert (figures.photos, figures.masks) == (2, 3)
        assert figures.box.single == pytest.approx(every.mean())
        totals = np.array([(one.box.single - every.mean()).sum(), (two.box.single - every.mean()).sum()])
        assert figures.box.standard_error == pytest.approx(np.sqrt(2 * (totals**2).sum()) / 3)
        assert figures.box.good == pytest.approx((every > 0.75).mean())
        assert set(figures.box.by_size) == {"medium", "large"}
        assert figures.baselines["box"] == pytest.approx(1.0)
        assert figures.baselines["ellipse"] == pytest.approx(np.pi / 4, rel=1e-2)
        answers = OutputScores(one.box.ious, one.box.predicted)
        assert figures.box.iou_error == pytest.approx(
            np.abs(np.concatenate([each.box.predicted - each.box.ious for each in (one, two)])).mean()
        )
        singles = np.concatenate([(each.box.predicted - each.box.ious)[:, 0] for each in (one, two)])
        assert figures.box.single_iou_error == pytest.approx(np.abs(singles).mean())
        assert figures.ellipse_wins == pytest.approx(1 / 3)  # of the second target, which the model answers wrongly
        assert set(figures.ellipse_by_size) == {"medium", "large"}
        assert answers.choice.shape == (2,)

    def test_errors_count_photos_not_masks(self):
        rng = np.random.default_rng(0)
        values, owners = rng.random(40), np.arange(40)
        independent = values.std(ddof=1) / np.sqrt(40)
        assert clustered_error(values, owners) == pytest.approx(independent)
        # Each mask four times in its photo: as many masks more, and nothing new is known.
        assert clustered_error(np.repeat(values, 4), np.repeat(owners, 4)) == pytest.approx(independent)
        assert clustered_error(values, np.zeros(40, np.int64)) == 0.0

    def test_the_error_is_the_spread_of_repeated_samples(self):
        rng = np.random.default_rng(1)
        means, errors = [], []
        for _ in range(600):
            counts = rng.integers(1, 12, 30)
            owners = np.repeat(np.arange(30), counts)
            values = rng.normal(0.0, 1.0, 30)[owners] + rng.normal(0.0, 0.5, len(owners))
            means.append(values.mean())
            errors.append(clustered_error(values, owners))
        assert np.mean(errors) == pytest.approx(np.std(means), rel=0.12)

    def test_masks_that_a_click_makes_worse(self):
        photo = measured(Standin(np.stack([TARGETS[0]] * 4)), TARGETS, clicks=2)
        shown = np.array([[0.5, 0.8], [0.6, 0.7], [0.595, 0.9]])
        figures = figures_of("x", [replace(photo, shown=shown, clicks=(photo.clicks[0],) * 3)])
        assert figures.fallen == (0.5, 0.0)
        assert figures.shown == pytest.approx((0.65, 0.65, 0.7475))

    def test_the_iou_head_is_judged_within_each_kind_of_prompt(self):
        """Two kinds of prompts without any correlation of their own correlate when they are pooled."""
        photo = measured(Standin(np.stack([TARGETS[0]] * 4)), TARGETS, clicks=1)
        predicted = np.array([[0.2, 0.1, 0.2, 0.1], [0.1, 0.2, 0.1, 0.2]])
        ious = np.array([[0.1, 0.1, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2]])
        kinds = OutputScores(ious + 0.6, predicted + 0.6), OutputScores(ious, predicted)
        figures = figures_of("x", [replace(photo, box=kinds[0], clicks=(kinds[1],))])
        assert figures.box.iou_correlation == pytest.approx(0.0, abs=1e-9)
        assert figures.clicks[0].iou_correlation == pytest.approx(0.0, abs=1e-9)
        assert figures.iou_correlation > 0.9


def test_examples_draw_masks_at_random_by_a_seed():
    masks = np.stack([block(0, 8 * index, 8 + 8 * index, 8 + 8 * index) for index in range(12)])
    drawn = [random_masks(sample(masks), np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert [each.shape for each in drawn] == [(3, SIDE, SIDE)] * 3
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    counts = np.zeros(12)
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts += [any(np.array_equal(mask, each) for each in random_masks(sample(masks), rng)) for mask in masks]
    assert counts.min() > 30  # 50 each are expected; the smallest as often as the largest
    assert random_masks(sample(masks[:1]), rng).shape == (1, SIDE, SIDE)


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    files = []
    for number in range(2):
        masks = np.zeros((2, 90, 120), bool)
        masks[0, 10:60, 20:90] = True
        masks[1, 40:80, 50 + number : 51 + number] = True  # one pixel wide
        files.append((f"sa_{number}.jpg", encoded(picture(number, (90, 120)))))
        files.append((f"sa_{number}.json", json.dumps(record(masks)).encode()))
    return write_tar(tmp_path_factory.mktemp("data") / "val.tar", files)


class TestCommand:
    def test_a_table_and_a_report(self, shard, tmp_path, capsys):
        out = tmp_path / "report"
        command = ["evaluate", "--model", "nano", "--input-size", "256", "--data", str(shard), "--clicks", "2"]
        assert run([*command, "--out", str(out)]) == 0
        text = capsys.readouterr().out
        for part in ("box: single mask", "2 clicks", "ellipse", "GrabCut", "correlation", "2 / 4"):
            assert part in text
        report = json.loads((out / "report.json").read_text())
        figures = report["figures"][0]
        assert (figures["photos"], figures["masks"], len(figures["shown"])) == (2, 4, 2)
        assert f"{figures['box']['single']:.3f}" in text
        assert str(tmp_path) not in (out / "report.json").read_text()
        assert report["subjects"][0]["input side"] == 256
        page = (out / "report.html").read_text()
        assert page.count("data:image/png;base64") == 2
        for name in ("clicks.png", "examples.png"):
            with Image.open(out / name) as drawn:
                assert drawn.size[0] > 100
        assert run([*command, "--out", str(out)]) == 2
        assert run([*command, "--out", str(out), "--overwrite", "--limit", "1", "--no-grabcut"]) == 0
        again = json.loads((out / "report.json").read_text())["figures"][0]
        assert again["photos"] == 1
        assert "grabcut" not in again["baselines"]

    def test_a_report_is_written_before_broken_records_are_complained_of(self, tmp_path, capsys):
        masks = np.zeros((1, 90, 120), bool)
        masks[0, 10:60, 20:90] = True
        files = []
        for number in range(3):
            photo = encoded(picture(number, (90, 120)))
            files.append((f"sa_{number}.jpg", photo if number == 0 else photo[:200]))
            files.append((f"sa_{number}.json", json.dumps(record(masks)).encode()))
        out = tmp_path / "report"
        command = ["evaluate", "--input-size", "256", "--protocol", "box", "--no-grabcut", "--out", str(out)]
        command += ["--data", str(write_tar(tmp_path / "a.tar", files))]
        assert run(command) == 2
        said = capsys.readouterr()
        assert "box: single mask" in said.out
        assert "2 of 3 records could not be used, more than 5.0%" in said.err
        assert json.loads((out / "report.json").read_text())["figures"][0]["photos"] == 1
        assert run([*command, "--overwrite", "--allow-broken", "0.7"]) == 0

    def test_a_model_and_a_bundle_share_one_table(self, shard, bundle, tmp_path, capsys):
        out = tmp_path / "report"
        command = ["evaluate", "--model", "nano", "--input-size", "256", "--bundle", str(bundle)]
        command += ["--protocol", "clicks", "--protocol", "automatic", "--clicks", "1", "--points-per-side", "3"]
        assert run([*command, "--data", str(shard), "--limit", "1", "--pictures", "1", "--out", str(out)]) == 0
        text = capsys.readouterr().out
        for part in ("average recall at 10", "IoU with the first column's masks", "box: single mask"):
            assert part in text
        report = json.loads((out / "report.json").read_text())
        assert [each["subject"] for each in report["figures"]] == ["nano torch fp32", "tiny_vit onnx fp32"]
        assert [each["photos"] for each in report["automatic"]] == [1, 1]
        assert report["automatic"][0]["agreement"] is None
        page = (out / "report.html").read_text()
        assert page.count("data:image/png;base64") == 4
        assert page.count("<th class") == 4

    def test_boxes_only(self, shard, tmp_path, capsys):
        out = tmp_path / "report"
        command = ["evaluate", "--input-size", "256", "--protocol", "box", "--no-grabcut", "--data", str(shard)]
        assert run([*command, "--model", "nano", "--out", str(out)]) == 0
        assert "click" not in capsys.readouterr().out.split("box: single")[1].split("report")[0]
        assert json.loads((out / "report.json").read_text())["figures"][0]["clicks"] == []
        assert not (out / "clicks.png").exists()

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (("--protocol", "points"), "'points' is unknown"),
            (("--pred-iou-thresh", "3"), "pred_iou_thresh 3"),
            (("--protocol", "edges"), "not laid out as BSDS500"),
            (("--data", "nowhere.tar"), "no data at nowhere.tar"),
            (("--clicks", "0"), "--clicks 0"),
            (("--limit", "0"), "--limit 0"),
            (("--pictures", "-1"), "--pictures -1"),
            (("--model", "vit_x"), "'vit_x'"),
            (("--checkpoint", "missing.pth"), "missing.pth"),
            (("--bundle", "nowhere"), "nowhere"),
            (("--bundle", "nowhere", "--input-size", "256"), "leave them out"),
        ],
    )
    def test_bad_input_gives_one_line(self, more, says, shard, tmp_path, capsys):
        out = tmp_path / "report"
        assert run(["evaluate", "--data", str(shard), "--out", str(out), "--no-grabcut", *more]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(lines) == 1
        assert says in lines[0]
        assert not out.exists()

    def test_photos_without_masks(self, tmp_path, capsys):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "a.jpg").write_bytes(encoded(picture(0)))
        assert run(["evaluate", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "report")]) == 2
        assert "without masks" in capsys.readouterr().err


def test_reports_contain_no_paths_of_the_machine():
    assert short_name("/home/somebody/coco/val.tar") == "coco/val.tar"


def test_a_negative_number_of_clicks_is_refused():
    with pytest.raises(UsageError, match="--protocol box for none"):
        Protocol(-1)


def test_the_baselines_equal_the_published_ones():
    """0.583 and 0.551 on coco/val, by the data set's README."""
    from sam_edge.data.skips import SkipLog
    from sam_edge.data.sources import open_source
    from sam_edge.data.stream import walk

    standin = Standin(np.stack([TARGETS[0]] * 4))
    photos = [
        measure_photo(standin, AnyCapacity((FrameSize.square(SIDE),)), each, Protocol(1, grabcut=False))
        for each in walk(open_source(real_data("coco/val.tar")), SkipLog())
        if each.rles
    ]
    figures = figures_of("coco/val.tar", photos)
    assert figures.masks == 303
    assert figures.baselines["ellipse"] == pytest.approx(0.583, abs=1e-3)
    assert figures.baselines["box"] == pytest.approx(0.551, abs=1e-3)
