"""Object proposals of a stand-in whose masks are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam_edge.cli.app import run
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import open_source
from sam_edge.evaluation.ground_truth import RecordTruth
from sam_edge.evaluation.proposals import PROPOSAL_SETTINGS, measure_proposals, proposal_rows
from sam_edge.prediction.promptable import AnyCapacity, Promptable
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.bundle.contract import FrameSize
from tests.data.builders import encoded, picture, record, write_tar
from tests.runtime.automatic.discs import SIDE, DiscBackend

SUBJECT = Promptable(DiscBackend(), AnyCapacity((FrameSize.square(SIDE),)), {"model": "it", "runs as": "here"})


def disc_masks(points: int) -> list[np.ndarray]:
    found = SUBJECT.mask_generator({**PROPOSAL_SETTINGS, "points_per_side": points}).generate(picture(0, (SIDE, SIDE)))
    return [rle.decode(each["segmentation"]) for each in found]


def test_recall_counts_discs_by_their_size(tmp_path):
    discs = sorted(disc_masks(2), key=lambda mask: mask.sum())
    assert len(discs) == 12  # three radii at each of four points: no filter takes one away
    far = np.zeros((SIDE, SIDE), bool)
    far[:20, :20] = True  # small, and no disc is like it
    masks = np.stack([discs[0], discs[-1], far])
    files = [("a.jpg", encoded(picture(0, (SIDE, SIDE)))), ("a.json", json.dumps(record(masks)).encode())]
    truth = RecordTruth(open_source(write_tar(tmp_path / "a.tar", files)), named=False)
    figures = measure_proposals(SUBJECT, truth, {"points_per_side": 2}, SkipLog())
    assert (figures.photos, figures.masks, figures.proposals) == (1, 3, 12.0)
    assert discs[0].sum() < 32**2 <= discs[-1].sum() < 96**2
    wanted = {"all": 2 / 3, "small": 1 / 2, "medium": 1.0, "large": None}
    assert figures.recall == pytest.approx(wanted)
    assert dict(proposal_rows([figures]))["mask AR@1000, large"] == ["-"]


def test_the_papers_settings():
    settings = AutomaticSettings.for_variant("vit_h", **PROPOSAL_SETTINGS)
    assert (settings.points_per_side, settings.box_nms_thresh, settings.crop_n_layers) == (64, 0.9, 0)
    assert (settings.pred_iou_thresh, settings.stability_score_thresh) == (0.0, 0.0)


def test_the_command(tmp_path, capsys):
    masks = np.stack(disc_masks(2)[:2])
    files = [("a.jpg", encoded(picture(0, (SIDE, SIDE)))), ("a.json", json.dumps(record(masks)).encode())]
    command = ["evaluate", "--input-size", "256", "--data", str(write_tar(tmp_path / "a.tar", files))]
    command += ["--protocol", "proposals", "--points-per-side", "3", "--out", str(tmp_path / "report")]
    assert run(command) == 0
    assert "mask AR@1000, all" in capsys.readouterr().out
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["proposals"][0]["masks"] == 2
    assert "points_per_side 3" in report["protocol"]["object proposals"]
    assert "box_nms_thresh 0.9" in report["protocol"]["object proposals"]
