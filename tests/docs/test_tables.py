"""Tables of measurements: every document shows what `benchmarks/results/*.json` holds, and shows it once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.tables.documents import TABLES, documents, filled
from benchmarks.tables.int8 import int8_aims_table
from benchmarks.tables.int8_peers import int8_peers_table
from benchmarks.tables.markdown import markdown
from benchmarks.tables.peers import peer_aims_table
from benchmarks.tables.results import ROOT, read
from sam_edge.model import VARIANTS

LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_shows_the_results(path):
    text = path.read_text("utf-8")
    assert filled(text) == text, "run `make tables`"


def test_a_changed_figure_is_found():
    text = (ROOT / "docs" / "int8.md").read_text("utf-8")
    changed = text.replace("| nano onnx w8 | 3.9 |", "| nano onnx w8 | 3.8 |")
    assert changed != text
    assert filled(changed) == text


def test_every_table_stands_in_one_place():
    shown = Counter(
        name for path in documents() for name in re.findall(r"<!-- table: (\S+) -->", path.read_text("utf-8"))
    )
    del shown["coverage"]  # holds no figures: README.md and docs/accuracy.md both show what was run
    assert shown == Counter(TABLES.keys() - {"coverage"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: nothing -->\n<!-- end -->\n", "no table called 'nothing': choose one of coverage, exports"),
        ("<!-- table: install -->\n", "without its <!-- end -->"),
        ("<!-- table: install -->\n<!-- table: int8 -->\n<!-- end -->\n", "without its <!-- end -->"),
    ],
)
def test_wrong_markers_are_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        filled(text)


def test_a_missed_aim_is_bold():
    results = read("peers")
    click = next(row for row in results["variants"]["nano"]["rows"] if row["kind"] == "sam-edge onnx")["steps"]["click"]
    for seconds, cell in ((0.0099, "| 9.9 |"), (0.0101, "| **10.1** |")):
        click["p50"] = seconds
        assert f"| nano click, ONNX Runtime, ms | 10 {cell}" in peer_aims_table({"here": results})


def test_an_aim_is_judged_as_it_is_printed():
    rows = read("int8")["bundles"]
    auto = next(row for row in rows if (row["variant"], row["target"], row["recipe"]) == ("nano", "onnx", "auto"))
    for share, cell in ((0.604, "0.60"), (0.606, "**0.61**")):
        auto["encoder"]["median"] = share
        assert f"| nano onnx | 0.6 | {cell} |" in int8_aims_table(rows)


def test_every_model_has_parity_with_its_authors_code():
    rows = read("parity")["models"]
    assert {row["variant"] for row in rows} == VARIANTS.keys() - {"nano", "small"}
    for row in rows:
        assert row["names"], row["variant"]
        assert row.get("chosen", True), row["variant"]
        assert (
            max((row[kind] for kind in ("features", "masks", "iou", "object_score") if kind in row), default=0) <= 1e-4
        )


def test_markdown_has_a_row_a_line():
    assert markdown(("a", "b"), [["x", 1], ["y", 2]]).splitlines() == [
        "| a | b |",
        "|---|---:|",
        "| x | 1 |",
        "| y | 2 |",
    ]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(name):
    links = LINK.findall((ROOT / name).read_text("utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_shows_every_room():
    tree = (
        (ROOT / "README.md").read_text("utf-8").partition("## The rooms")[2].partition("```\n")[2].partition("```")[0]
    )
    shown = {name for line in tree.splitlines() for name in re.findall(r"(?:^ *|(?<= ))(\w+)/(?= )", line[:31])}
    rooms = [ROOT / "sam_edge", ROOT / "quant/sam_edge_quant", ROOT / "runtime/sam_edge_runtime"]
    wanted = {path.parent.name for room in rooms for path in Path(room).glob("*/__init__.py")}
    assert wanted - shown == set()


def test_our_int8_is_bold_beside_other_quantizers_and_a_failure_is_shown():
    figures = {
        "size": 0.25,
        "encoder": {"median": 0.5, "low": 0.4, "high": 0.6},
        "embedding_snr_db": 20.0,
        "mask_miou": 0.98,
        "lowest_mask_iou": 0.9,
    }
    table = int8_peers_table(
        [
            {"model": "nano", "row": "coremltools palettize_weights", "error": "no such mode"},
            {"model": "nano", "row": "onnx w8a8", **figures},
            {"model": "nano", "row": "ONNX Runtime quantize_static", **figures, "human": 0.5},
        ]
    )
    assert table.splitlines()[2:] == [
        "| nano **onnx w8a8** | 0.25 | 0.50 (0.40 to 0.60) |  | 20.0 dB | 0.9800 | 0.900 |  |",
        "| nano ONNX Runtime quantize_static | 0.25 | 0.50 (0.40 to 0.60) |  | 20.0 dB | 0.9800 | 0.900 | 0.5000 |",
        "| nano coremltools palettize_weights | no such mode |  |  |  |  |  |  |",
    ]
