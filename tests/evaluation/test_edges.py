"""Edges: matching and figures of countable lines, and the command on a folder laid out as BSDS500."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sam_edge.cli.app import run
from sam_edge.evaluation.edges import (
    THRESHOLDS,
    edge_figures,
    edge_map,
    match_counts,
    measure_edges,
    open_edges,
    read_drawn,
    thin_edges,
)
from sam_edge_runtime.errors import DataError
from tests.data.builders import picture
from tests.runtime.automatic.discs import SIDE, disc_generator

SIZE = (80, 100)
REACH = 0.0075 * np.hypot(*SIZE)  # 0.96 pixels


def column(x: int) -> np.ndarray:
    lines = np.zeros(SIZE, np.bool_)
    lines[:, x] = True
    return lines


def test_pixels_are_matched_one_to_one_and_only_nearby():
    assert REACH < 1
    counts = match_counts(column(20).astype(np.float32), [column(20), column(50)])
    assert (counts == [80, 80, 80, 160]).all()
    counts = match_counts(column(21).astype(np.float32), [column(20)])
    assert (counts == [0, 80, 0, 80]).all()


def test_two_predicted_lines_cannot_both_match_one_drawn_line():
    size = (200, 400)  # here the reach is three pixels
    found, drawn = np.zeros(size, np.float32), np.zeros(size, np.bool_)
    found[:, 99], found[:, 101], drawn[:, 100] = 1.0, 1.0, True
    assert (match_counts(found, [drawn]) == [200, 400, 200, 200]).all()


def test_a_predicted_pixel_is_right_if_any_annotator_drew_it():
    counts = match_counts((column(20) | column(50)).astype(np.float32), [column(20), column(50)])
    assert (counts == [160, 160, 160, 160]).all()
    figures = edge_figures("it", "data", counts[None])
    assert (figures.ods, figures.ois) == (1.0, 1.0)
    assert figures.ap == pytest.approx(1.0)


def test_ods_has_one_threshold_and_ois_one_for_each_photo():
    weak, strong = column(20) * np.float32(0.3), column(20) * np.float32(0.9)
    noise = column(50) * np.float32(0.5)
    counts = np.stack([match_counts(weak, [column(20)]), match_counts(strong + noise, [column(20)])])
    figures = edge_figures("it", "data", counts)
    assert figures.ois == pytest.approx(1.0)
    assert figures.ods == pytest.approx(2 * (160 / 240) / (1 + 160 / 240))  # all three lines at a low threshold
    assert figures.ods_threshold <= 0.3
    assert figures.r50 == pytest.approx(1.0)  # all lines: two of three predicted pixels are right


@pytest.mark.parametrize("angle", [0, 30, 45, 80])
def test_a_ridge_becomes_a_line(angle):
    y, x = np.mgrid[:60, :60] - 30.0
    away = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    thin = thin_edges(np.exp(-(away**2) / 8).astype(np.float32))[8:-8, 8:-8]
    assert np.abs(away[8:-8, 8:-8][thin > 0.01]).max() <= 1.0
    assert (thin.max(axis=1 if angle <= 45 else 0)[2:-2] > 0.8).all()


def test_edges_run_where_masks_end():
    edges = edge_map(disc_generator(1), picture(0, (SIDE, SIDE)))
    y, x = np.nonzero(edges > 0.3)
    radius = np.hypot(x + 0.5 - SIDE / 2, y + 0.5 - SIDE / 2)
    assert len(radius) > 100
    assert np.abs(radius[:, None] - [12, 20, 30]).min(axis=1).max() < 2.5
    assert edges.max() == 1.0


@pytest.fixture
def bsds(tmp_path):
    """Two photos, each with the boundaries of two annotators."""
    for folder in ("images", "groundTruth"):
        (tmp_path / "data" / folder / "test").mkdir(parents=True)
    for name in ("1", "2"):
        Image.fromarray(picture(int(name), SIZE)).save(tmp_path / "data" / "images" / "test" / f"{name}.jpg")
        cells = np.empty((1, 2), object)
        for index in range(2):
            cells[0, index] = {"Boundaries": column(20 + index).astype(np.uint8), "Segmentation": np.ones(SIZE)}
        savemat(tmp_path / "data" / "groundTruth" / "test" / f"{name}.mat", {"groundTruth": cells})
    return tmp_path / "data"


def test_a_folder_of_the_benchmarks_layout_is_read(bsds):
    source = open_edges(str(bsds))
    assert [pair.photo.name for pair in source.photos] == ["1.jpg", "2.jpg"]
    assert open_edges(str(bsds / "images" / "test")) == source
    drawn = read_drawn(source.photos[0].drawn)
    np.testing.assert_array_equal(drawn, [column(20), column(21)])
    figures = measure_edges("discs", source, disc_generator(), limit=1)
    assert (figures.photos, figures.data) == (1, "images/test")
    assert 0 <= figures.ods <= figures.ois <= 1
    assert figures.ods_threshold in THRESHOLDS


def test_other_folders_are_refused(bsds, tmp_path):
    with pytest.raises(DataError, match="not laid out as BSDS500"):
        open_edges(str(tmp_path))
    mat = bsds / "groundTruth" / "test" / "2.mat"
    mat.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is not ground truth of BSDS500"):
        read_drawn(mat)
    mat.unlink()
    with pytest.raises(DataError, match="1 of 2 photos"):
        open_edges(str(bsds))


def test_the_command_prints_and_writes_the_figures(bsds, tmp_path, capsys):
    out = tmp_path / "report"
    asked = ["evaluate", "--protocol", "edges", "--data", str(bsds), "--limit", "1", "--out", str(out)]
    assert run(asked) == 0
    assert "ODS (threshold)" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert report["edges"][0]["photos"] == 1
    assert "ODS" in (out / "report.html").read_text()
