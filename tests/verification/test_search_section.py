"""The page of a verification says what the search for the bundle's recipe tried."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from PIL import Image

from sam_edge.cli.app import run
from sam_edge.verification.report import search_section
from sam_edge_runtime.bundle.bundle import SEARCH_PLOT, Bundle, record_files
from sam_edge_runtime.bundle.manifest import Manifest
from tests.reporting.test_search import search


def add_search(bundle: Path) -> None:
    """Give a bundle a search's report and plot, as an export with `--labelled` does."""
    report = json.loads((bundle / "report.json").read_text("utf-8"))
    report["quantization"] = {"search": search()}
    (bundle / "report.json").write_text(json.dumps(report), encoding="utf-8")
    Image.new("RGB", (8, 8), (10, 20, 30)).save(bundle / SEARCH_PLOT)
    manifest = Manifest.from_json((bundle / "manifest.json").read_text("utf-8"))
    (bundle / "manifest.json").write_text(replace(manifest, files=record_files(bundle)).to_json(), encoding="utf-8")


def test_both_figures_of_every_configuration_are_shown(bundle, capsys):
    assert search_section(Bundle.open(bundle)) is None
    add_search(bundle)
    section = search_section(Bundle.open(bundle))
    assert section is not None
    assert len(section.rows) == 3
    assert section.png
    assert run(["info", str(bundle)]) == 0
    shown = capsys.readouterr().out
    for words in ("0.0040 (0.0020..0.0060)", "0.9960", "chosen", "2 calibration photos left"):
        assert words in shown
    (bundle / SEARCH_PLOT).write_bytes(b"another picture")
    changed = search_section(Bundle.open(bundle))
    assert changed is not None
    assert changed.png == ""  # only the picture that the export wrote goes into the page


def test_the_page_has_the_table_and_the_plot(bundle, tmp_path):
    add_search(bundle)
    assert run(["verify", str(bundle), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "<h2>Search</h2>" in page
    assert "0.0040 (0.0020..0.0060)" in page
    assert "data:image/png;base64," in page
