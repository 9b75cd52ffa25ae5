"""The static site: whole, complete, and never in place of other files."""

from __future__ import annotations

import json

import pytest

from sam_edge.cli.app import run
from sam_edge.serving import page as page_module
from sam_edge_runtime import Bundle
from tests.runtime.standin import write_onnx_bundle

from .builders import write_page


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "STATIC", write_page(tmp_path / "page"))
    monkeypatch.chdir(tmp_path)
    return write_onnx_bundle(tmp_path / "nano").root


def test_a_site_holds_the_page_the_bundles_and_what_a_host_needs(made, tmp_path, capsys):
    write_onnx_bundle(tmp_path / "other")
    assert run(["site", "nano", "other", "--out", "public"]) == 0
    site = tmp_path / "public"
    assert "public" in capsys.readouterr().out
    found = sorted(path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file())
    bundle = ["decoder.onnx", "encoder.onnx", "manifest.json"]
    assert found == sorted(
        [".nojekyll", "_headers", "assets/app-0a1b2c.js", "assets/engine-9f.wasm", "index.html", "isolation-sw.js",
         "session.json", "site.json", *(f"bundles/{name}/{file}" for name in ("nano", "other") for file in bundle)]
    )  # fmt: skip
    assert Bundle.open(site / "bundles" / "nano").manifest == Bundle.open(made).manifest
    session = json.loads((site / "session.json").read_text())
    assert (session["server"], session["mode"], session["engine"]) == (False, "photo", "browser")
    assert [(each["url"], each["engines"]) for each in session["bundles"]] == [
        ("bundles/nano/", ["browser"]),
        ("bundles/other/", ["browser"]),
    ]
    headers = (site / "_headers").read_text().splitlines()
    assert headers[0] == "/*"
    for line in (
        "  Cross-Origin-Opener-Policy: same-origin", "  Cross-Origin-Embedder-Policy: require-corp", "/assets/*",
    ):  # fmt: skip
        assert line in headers
    assert any("script-src 'self' 'wasm-unsafe-eval'" in line for line in headers)


def test_an_earlier_site_is_replaced_on_demand_and_nothing_else(made, tmp_path, capsys):
    site = tmp_path / "public"
    assert run(["site", "nano", "--out", "public"]) == 0
    assert run(["site", "nano", "--out", "public"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(["site", "nano", "--out", "public", "--overwrite"]) == 0
    for name, content in (("thesis.txt", "years of work"), ("index.html", "my own page")):
        (site / name).write_text(content)
        assert run(["site", "nano", "--out", "public", "--overwrite"]) == 2
        assert name in capsys.readouterr().err
        assert (site / name).read_text() == content
        if name == "thesis.txt":
            (site / name).unlink()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert run(["site", "nano", "--out", "mine", "--overwrite"]) == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "nano", "page", "public"]


def test_what_makes_no_site(made, tmp_path, capsys):
    write_onnx_bundle(tmp_path / "broken")
    (tmp_path / "broken" / "encoder.onnx").write_bytes(b"")
    (tmp_path / "page" / "session.json").write_text("{}")
    for arguments, says in ((["broken"], "encoder.onnx"), (["nowhere"], "nowhere"), (["nano"], "session.json")):
        assert run(["site", *arguments, "--out", "public"]) == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / "public").exists()
