"""Files that are given out: bundles and the page, whole and in parts, and nothing else of the disk."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from sam_edge.serving.application import SESSION_FILE
from sam_edge.serving.hosted_bundle import choose_engine, host_bundles
from sam_edge.serving.page import Page
from sam_edge_runtime.bundle.bundle import record_files
from sam_edge_runtime.errors import BundleError, UsageError
from tests.runtime.standin import manifest, write_onnx_bundle

from .builders import client_of, hosted, photo_app, write_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def client(folder):
    (folder / "secret.txt").write_text("years of work")
    return client_of(photo_app(folder))


def test_a_file_comes_whole_and_is_not_sent_twice(client, folder):
    content = (folder / "bundle" / "encoder.onnx").read_bytes()
    answer = client.get("/bundles/bundle/encoder.onnx")
    assert answer.content == content
    assert answer.headers["etag"] == f'"sha256-{hashlib.sha256(content).hexdigest()}"'
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["content-type"] == "application/octet-stream"
    again = client.get("/bundles/bundle/encoder.onnx", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]
    changed = client.get("/bundles/bundle/encoder.onnx", headers={"If-None-Match": '"sha256-0"'})
    assert changed.content == content


def test_parts_of_a_file(client, folder):
    content = (folder / "bundle" / "decoder.onnx").read_bytes()
    part = client.get("/bundles/bundle/decoder.onnx", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
    rest = client.get("/bundles/bundle/decoder.onnx", headers={"Range": f"bytes={len(content) - 7}-"})
    assert rest.content == content[-7:]
    beyond = client.get("/bundles/bundle/decoder.onnx", headers={"Range": f"bytes={len(content)}-"})
    assert beyond.status_code == 416
    of_another = client.get(
        "/bundles/bundle/decoder.onnx", headers={"Range": "bytes=0-9", "If-Range": '"sha256-of-another"'}
    )
    assert (of_another.status_code, of_another.content) == (200, content)
    head = client.head("/bundles/bundle/decoder.onnx")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(content)))


def test_media_types_and_how_long_browsers_keep_files(client):
    kinds = {
        "/": ("text/html; charset=utf-8", "private, no-cache"),
        "/assets/app-0a1b2c.js": ("text/javascript; charset=utf-8", "private, max-age=31536000, immutable"),
        "/assets/engine-9f.wasm": ("application/wasm", "private, max-age=31536000, immutable"),
        "/bundles/bundle/manifest.json": ("application/json", "private, no-cache"),
        f"/{SESSION_FILE}": ("application/json", "no-store"),
    }
    for path, (kind, kept) in kinds.items():
        answer = client.get(path)
        assert (answer.headers["content-type"], answer.headers["cache-control"]) == (kind, kept), path


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/assets/..%2f..%2f..%2fsecret.txt",
        "/bundles/bundle/../../secret.txt", "/bundles/bundle/..%2f..%2fsecret.txt", "/bundles/..%2f/secret.txt",
        "/bundles/bundle/%2fetc%2fpasswd", "/bundles/bundle//etc/passwd", "//etc/passwd",
        "/bundles/bundle/manifest.json%00", "/bundles/bundle/MANIFEST.JSON", "/bundles/bundle/",
        "/bundles/bundle/thesis.txt", "/bundles/other/manifest.json",
        "/index.html/", "/assets", "/assets/", "/..\\secret.txt", "/bundles/bundle/..\\..\\secret.txt",
    ],
)  # fmt: skip
def test_no_other_file_is_reached(client, folder, path):
    (folder / "bundle" / "thesis.txt").write_text("years of work")
    answer = client.get(path)
    assert answer.status_code == 404, answer.text
    assert "years of work" not in answer.text
    assert str(folder) not in answer.text


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_out_of_the_page_and_the_bundle_lead_nowhere(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("years of work")
    page = write_page(tmp_path / "page")
    (page / "leak.txt").symlink_to(secret)
    (page / "assets" / "folder").symlink_to(tmp_path)
    bundle = write_onnx_bundle(tmp_path / "bundle").root
    (bundle / "leak.txt").symlink_to(secret)
    client = client_of(photo_app(tmp_path / "app", page=Page.open(page), bundles=host_bundles([bundle])))
    for path in ("/leak.txt", "/assets/folder/secret.txt", "/bundles/bundle/leak.txt"):
        assert client.get(path).status_code == 404


def test_files_that_the_manifest_does_not_vouch_for_are_not_given_out(tmp_path):
    bundle = write_onnx_bundle(tmp_path / "bundle").root
    for name in ("report.json", "golden.npz"):
        (bundle / name).write_text("as exported")
    (bundle / "manifest.json").write_text(manifest(files=record_files(bundle)).to_json())
    (bundle / "report.json").write_text("edited")
    (each,) = host_bundles([bundle])
    assert set(each.files) == {"manifest.json", "encoder.onnx", "decoder.onnx", "golden.npz"}


def test_bundles_of_one_name_get_two_and_odd_names_are_made_plain(tmp_path):
    places = [tmp_path / "a" / "nano", tmp_path / "b" / "nano", tmp_path / "<b>&nano ü<b>"]
    for place in places:
        write_onnx_bundle(place)
    found = host_bundles(places)
    assert [each.name for each in found] == ["nano", "nano_2", "b-nano-b"]
    assert [each.title for each in found] == ["nano", "nano", "<b>&nano ü<b>"]


def test_what_is_told_of_bundles(client):
    told = client.get(f"/{SESSION_FILE}").json()
    (bundle,) = told["bundles"]
    assert (told["format"], told["server"], told["mode"], told["annotate"]) == ("sam-edge-session", True, "photo", None)
    assert (bundle["url"], bundle["variant"], bundle["engines"]) == (
        "bundles/bundle/",
        "standin",
        ["browser", "server"],
    )
    (listed,) = client.get("/bundles").json()["bundles"]
    assert listed["manifest"] == client.get("/bundles/bundle/manifest.json").json()


def test_markup_in_names_stays_text(tmp_path):
    name = '<img src=x onerror="alert(1)">'
    client = client_of(photo_app(tmp_path, bundles=hosted(tmp_path, name)))
    answer = client.get(f"/{SESSION_FILE}")
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.text)["bundles"][0]["title"] == name
    for path in (f"/{name}", f"/bundles/{name}/x", f"/api/queue/{name}/masks"):
        refused = client.get(path)
        assert refused.status_code == 404
        assert refused.headers["content-type"] in ("application/json", "text/plain; charset=utf-8")
        assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_page_that_is_not_built_says_how_to_build_it(tmp_path):
    with pytest.raises(UsageError, match="make web"):
        Page.open(tmp_path)


def test_engines_of_bundles(tmp_path):
    bundles = hosted(tmp_path)
    assert choose_engine(bundles, "server") == "server"
    with pytest.raises(UsageError, match="browser, server"):
        choose_engine(bundles, "gpu")
    with pytest.raises(BundleError, match="no bundle"):
        host_bundles([tmp_path])
