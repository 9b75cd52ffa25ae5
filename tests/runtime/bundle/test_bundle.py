"""Opening a bundle checks paths, sizes, hashes and the manifest."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sam_edge_runtime.bundle.bundle import Bundle, foreign_files, record_files
from sam_edge_runtime.bundle.manifest import FileRecord, Manifest
from sam_edge_runtime.errors import BundleError
from sam_edge_runtime.system.files import sha256_of
from tests.runtime.standin import manifest

GRAPHS = {"encoder.onnx": b"the encoder", "decoder.onnx": b"the decoder"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A bundle whose graphs no engine could load: opening a bundle does not read its graphs."""
    root = tmp_path / "bundle"
    (root / "weights").mkdir(parents=True)
    for name, content in GRAPHS.items():
        (root / name).write_bytes(content)
    (root / "weights" / "block 0.bin").write_bytes(b"0123")
    seal(root)
    return root


def seal(root: Path, **files: FileRecord) -> None:
    """Write a manifest for the files of the folder and for `files`."""
    save(root, manifest(files={**record_files(root), **files}))


def save(root: Path, content: Manifest) -> None:
    (root / "manifest.json").write_text(content.to_json(), encoding="utf-8")


def record_as(root: Path, name: str, record: FileRecord | None = None) -> None:
    """Add `name` to the manifest, by default with the encoder's hash and size."""
    seal(root, **{name: record or record_files(root)["encoder.onnx"]})


def refused(root: Path | str, *, check_hashes: bool = True) -> str:
    """The message that refuses the bundle at `root`; it is one line."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(root, check_hashes=check_hashes)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1000
    return line


# Sound bundles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_sound_bundle_opens(folder, kind, check_hashes):
    bundle = Bundle.open(kind(folder), check_hashes=check_hashes)
    assert bundle.root == folder
    assert bundle.encoder_path.read_bytes() == GRAPHS["encoder.onnx"]
    assert bundle.decoder_path.read_bytes() == GRAPHS["decoder.onnx"]
    assert bundle.size == 11 + 11 + 4
    assert bundle.golden_path is None


def test_the_golden_test_counts_when_the_manifest_names_it(folder):
    (folder / "golden.npz").write_bytes(b"x")
    assert Bundle.open(folder).golden_path is None  # a stray file is not part of the bundle
    seal(folder)
    assert Bundle.open(folder).golden_path == folder / "golden.npz"


def test_record_files_lists_everything_but_the_manifest(folder):
    (folder / "weights" / "empty").touch()
    (folder / "weights" / "manifest.json").write_bytes(b"{}")  # a package inside may contain one
    records = record_files(folder)
    assert {name: record.bytes for name, record in records.items()} == {
        "decoder.onnx": 11,
        "encoder.onnx": 11,
        "weights/block 0.bin": 4,
        "weights/empty": 0,
        "weights/manifest.json": 2,
    }
    assert list(records) == sorted(records)
    for name, record in records.items():
        assert record.sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    seal(folder)
    assert Bundle.open(folder).manifest.files == records


def test_a_bundle_can_be_moved_and_contain_links_that_stay_inside(folder, tmp_path):
    (folder / "decoder.onnx").rename(folder / "weights" / "real.onnx")
    (folder / "decoder.onnx").symlink_to(Path("weights") / "real.onnx")
    seal(folder)
    (tmp_path / "link").symlink_to(folder.rename(tmp_path / "moved"))
    for place in (tmp_path / "moved", tmp_path / "link"):
        assert Bundle.open(place).decoder_path.read_bytes() == GRAPHS["decoder.onnx"]


# Paths that leave the bundle ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x",
        "..",
        "a/../x",
        "a/..",
        "weights/../../outside",
        "/etc/passwd",
        "//host/share/x",
        "C:\\x",
        "C:/x",
        "C:x",
        "\\x",
        "\\\\host\\share\\x",
        "a\\..\\b",
        "weights\\block 0.bin",
        "a\nb",
        "a\0b",
        "\x1b[2Jx",
        "\ud800",
        "../" + "x" * 3000,
    ],
)
@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_name_that_is_no_path_inside_the_bundle_is_refused(folder, name, check_hashes):
    (folder.parent / "x").write_bytes(GRAPHS["encoder.onnx"])  # the file that the name leads to has the recorded hash
    (folder.parent / "outside").write_bytes(GRAPHS["encoder.onnx"])
    record_as(folder, name)
    line = refused(folder, check_hashes=check_hashes)
    assert f"manifest.json names {repr(name)[:200]}, which is not a path inside the bundle" in line
    assert line.endswith("export the bundle again")
    assert line.isprintable()


def _link_to_outside(folder: Path) -> str:
    (folder.parent / "outside").write_bytes(GRAPHS["encoder.onnx"])
    (folder / "linked.onnx").symlink_to(folder.parent / "outside")
    return "linked.onnx"


def _below_a_linked_folder(folder: Path) -> str:
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere" / "x").write_bytes(GRAPHS["encoder.onnx"])
    (folder / "sub").symlink_to("../elsewhere")
    return "sub/x"


def _link_to_a_folder_whose_name_begins_alike(folder: Path) -> str:
    (folder.parent / "bundle2").mkdir()
    (folder.parent / "bundle2" / "x").write_bytes(GRAPHS["encoder.onnx"])
    (folder / "linked.onnx").symlink_to("../bundle2/x")
    return "linked.onnx"


LINKS = [_link_to_outside, _below_a_linked_folder, _link_to_a_folder_whose_name_begins_alike]


@pytest.mark.parametrize("kind", LINKS)
def test_a_link_that_leaves_the_bundle_is_refused_where_no_hash_is_checked(folder, kind):
    name = kind(folder)
    record_as(folder, name, FileRecord(sha256_of(folder / name), (folder / name).stat().st_size))
    line = refused(folder, check_hashes=False)
    assert f"{folder}: {name} is a link that leaves the bundle" in line


@pytest.mark.parametrize("kind", LINKS)
def test_behind_a_link_only_the_file_with_the_right_hash_is_read(folder, kind):
    name = kind(folder)
    record_as(folder, name, FileRecord(sha256_of(folder / name), (folder / name).stat().st_size))
    assert Bundle.open(folder).root == folder
    size = (folder / name).stat().st_size
    (folder / name).write_bytes(b"?" * size)
    assert f"{folder}: {name} has SHA-256" in refused(folder)


def test_a_linked_manifest_is_refused(folder):
    (folder / "manifest.json").rename(folder.parent / "elsewhere.json")
    (folder / "manifest.json").symlink_to("../elsewhere.json")
    for check_hashes in (True, False):
        assert "manifest.json is a link that leaves the bundle" in refused(folder, check_hashes=check_hashes)


@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_bundle_in_the_cache_of_hugging_face_opens(folder, tmp_path, check_hashes):
    snapshot = tmp_path / "models--me--nano" / "snapshots" / "0123abcd"
    blobs = tmp_path / "models--me--nano" / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(path for path in sorted(folder.rglob("*")) if path.is_file()):
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        (blobs / str(number)).write_bytes(path.read_bytes())
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    assert Bundle.open(snapshot, check_hashes=check_hashes).encoder_path.read_bytes() == GRAPHS["encoder.onnx"]


def test_a_bundle_in_a_zip_file_opens(folder, tmp_path):
    for name, top in (("bare.zip", ""), ("folder.zip", "nano/")):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in folder.rglob("*"):
                archive.write(path, f"{top}{path.relative_to(folder).as_posix()}")
            archive.writestr(f"{top}../../evil.txt", "not named, so not unpacked")
        bundle = Bundle.open(tmp_path / name)
        assert bundle.encoder_path.read_bytes() == GRAPHS["encoder.onnx"]
        assert sorted(path.name for path in bundle.root.iterdir()) == [
            "decoder.onnx",
            "encoder.onnx",
            "manifest.json",
            "weights",
        ]


def test_a_zip_file_without_a_sound_bundle_is_refused(folder, tmp_path):
    def archive(name: str, **changed: bytes) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            for path in folder.rglob("*"):
                if path.is_file():
                    inner = path.relative_to(folder).as_posix()
                    file.writestr(inner, changed.get(inner.partition(".")[0], path.read_bytes()))
        return tmp_path / name

    assert "encoder.onnx has 9 bytes, 11 expected" in refused(archive("size.zip", encoder=b"other one"))
    assert "encoder.onnx has SHA-256" in refused(archive("hash.zip", encoder=b"the encodes"))
    assert "manifest.json is not JSON" in refused(archive("none.zip", manifest=b""))
    whole = archive("whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:60] + b"\xff" * 20 + whole[80:])
    assert "cut.zip" in refused(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as file:
        file.writestr("readme.txt", "no bundle")
    assert "holds 0 bundles at its top" in refused(tmp_path / "empty.zip")


# What prediction does not need ---------------------------------------------------------------------------------------


def with_report(folder: Path) -> Path:
    (folder / "report.json").write_bytes(b'{\n "passed": true\n}\n')
    (folder / "golden.npz").write_bytes(b"a test")
    seal(folder)
    return folder


def test_a_report_with_the_line_ends_of_windows_is_the_same_report(folder):
    report = with_report(folder) / "report.json"
    report.write_bytes(report.read_bytes().replace(b"\n", b"\r\n"))
    assert Bundle.open(folder).report() == {"passed": True}


@pytest.mark.parametrize("content", [b'{\n "passed": "by me"\n}\n', b"[" * 20, b"", b"x" * 100_000])
def test_an_edited_report_is_no_report(folder, content):
    (with_report(folder) / "report.json").write_bytes(content)
    assert Bundle.open(folder).report() == {}


def test_a_report_that_the_manifest_does_not_name_is_not_read(folder):
    (folder / "report.json").write_text('{"passed": true}')
    assert Bundle.open(folder).report() == {}
    (folder / "report.json").unlink()
    os.mkfifo(folder / "report.json")  # reading it would wait for ever
    assert Bundle.open(folder).report() == {}


def test_a_bundle_opens_without_golden_test_and_report(folder):
    with_report(folder)
    (folder / "golden.npz").unlink()
    (folder / "report.json").unlink()
    bundle = Bundle.open(folder)
    assert bundle.golden_path is None
    assert bundle.report() == {}


def test_an_edited_golden_test_is_refused_when_it_is_used(folder):
    (with_report(folder) / "golden.npz").write_bytes(b"b test")
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError, match=r"golden\.npz has SHA-256"):
        _ = bundle.golden_path


def test_a_manifest_may_begin_with_a_byte_order_mark(folder):
    text = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert Bundle.open(folder).encoder_path.is_file()


def test_a_graph_folder_holds_nothing_that_the_manifest_does_not_name(folder):
    for name in ("encoder.mlpackage", "decoder.mlpackage"):
        (folder / name / "Data").mkdir(parents=True)
        (folder / name / "Data" / "weight.bin").write_bytes(b"weights")
    files = record_files(folder)
    save(folder, manifest(target="coreml", encoder="encoder.mlpackage", decoder="decoder.mlpackage", files=files))
    assert Bundle.open(folder).encoder_path.is_dir()
    (folder / "encoder.mlpackage" / "Data" / "more.bin").write_bytes(b"unhashed")
    assert "holds 'Data/more.bin', which manifest.json does not name" in refused(folder)
    (folder / "encoder.mlpackage" / "Data" / "more.bin").unlink()
    (folder / "encoder.mlpackage" / "Data").rename(folder.parent / "Data")
    (folder / "encoder.mlpackage" / "Data").symlink_to("../../Data")
    assert "holds 'Data'" in refused(folder)


# Files that differ from the manifest --------------------------------------------------------------------------------


def _gone(folder: Path) -> None:
    (folder / "decoder.onnx").unlink()


def _a_folder_instead(folder: Path) -> None:
    _gone(folder)
    (folder / "decoder.onnx").mkdir()


def _dangling(folder: Path) -> None:
    _gone(folder)
    (folder / "decoder.onnx").symlink_to("nowhere")


def _loop(folder: Path) -> None:
    _gone(folder)
    (folder / "decoder.onnx").symlink_to("decoder.onnx")


def _pipe(folder: Path) -> None:
    _gone(folder)
    os.mkfifo(folder / "decoder.onnx")


@pytest.mark.parametrize("kind", [_gone, _a_folder_instead, _dangling, _loop, _pipe])
@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_missing_file_is_refused(folder, kind, check_hashes):
    kind(folder)
    assert refused(folder, check_hashes=check_hashes) == (f"{folder}: decoder.onnx is missing: export the bundle again")


@pytest.mark.parametrize("name", [".", "./", "weights", "weights/"])
def test_a_folder_in_place_of_a_file_is_refused(folder, name):
    record_as(folder, name)
    assert f"{name} is missing" in refused(folder)


@pytest.mark.parametrize("content", [b"", b"the decode", b"the decoders"])
@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_file_of_another_size_is_refused(folder, content, check_hashes):
    (folder / "decoder.onnx").write_bytes(content)
    assert f"{folder}: decoder.onnx has {len(content)} bytes, 11 expected: copy or export" in refused(
        folder, check_hashes=check_hashes
    )


def test_a_file_of_the_same_size_and_another_hash_is_refused(folder):
    (folder / "decoder.onnx").write_bytes(b"THE decoder")
    line = refused(folder)
    found, expected = (hashlib.sha256(content).hexdigest() for content in (b"THE decoder", b"the decoder"))
    assert f"{folder}: decoder.onnx has SHA-256 '{found[:12]}'..., '{expected[:12]}'... expected" in line
    assert "copy or export it again" in line


def test_check_hashes_false_skips_only_the_hash(folder):
    (folder / "decoder.onnx").write_bytes(b"THE decoder")
    assert Bundle.open(folder, check_hashes=False).decoder_path.read_bytes() == b"THE decoder"


def test_a_recorded_hash_cannot_break_the_message_into_lines(folder):
    record_as(folder, "encoder.onnx", FileRecord("a\nb", 11))
    assert "'a\\nb'" in refused(folder)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@pytest.mark.parametrize("name", ["other.onnx", "../encoder.onnx", "manifest.json", "/etc/passwd"])
def test_a_graph_that_is_not_among_the_files_is_refused(folder, role, name):
    save(folder, replace(manifest(files=record_files(folder)), **{role: name}))
    line = refused(folder)
    assert f"{folder}: manifest.json names the graph {name!r} but not its hash: export again" in line


# Folders that are no bundle -----------------------------------------------------------------------------------------


def _nothing(folder: Path) -> Path:
    return folder.parent / "nowhere"


def _a_file(folder: Path) -> Path:
    return folder / "encoder.onnx"


def _no_manifest(folder: Path) -> Path:
    (folder / "manifest.json").unlink()
    return folder


def _manifest_is_a_folder(folder: Path) -> Path:
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    return folder


def _manifest_is_a_pipe(folder: Path) -> Path:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    return folder


def _giant(folder: Path) -> Path:
    with (folder / "manifest.json").open("r+b") as stream:
        stream.truncate((4 << 20) + 1)  # sparse: takes no disk space
    return folder


def _not_utf8(folder: Path) -> Path:
    (folder / "manifest.json").write_bytes(b'{"format": "\xff\xfe"}')
    return folder


def _truncated(folder: Path) -> Path:
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    (folder / "manifest.json").write_text(text[: len(text) // 2], encoding="utf-8")
    return folder


def _edited(folder: Path) -> Path:
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    content["model"]["licence"] = "MIT"
    (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def _name_too_long(folder: Path) -> Path:
    return folder / ("a" * 300)


@pytest.mark.parametrize(
    ("kind", "reason", "remedy"),
    [
        (_nothing, "does not exist", "name the folder that `sam-edge export --out` made"),
        (_a_file, "is no bundle: it has no manifest.json", "name the folder that"),
        (_no_manifest, "is no bundle: it has no manifest.json", "name the folder that"),
        (_manifest_is_a_folder, "is no bundle: it has no manifest.json", "name the folder that"),
        (_manifest_is_a_pipe, "is no bundle: it has no manifest.json", "name the folder that"),
        (_giant, "manifest.json has 4194305 bytes, more than any manifest", "export the bundle again"),
        (_not_utf8, "manifest.json cannot be read ('utf-8' codec", "export the bundle again"),
        (_truncated, "manifest.json is not JSON", "export the bundle again"),
        (_edited, "manifest.json does not match its digest", "export the bundle again"),
        (_name_too_long, "cannot be read (File name too long)", "check the folder's name"),
    ],
)
def test_a_folder_that_is_no_bundle_is_refused_with_the_remedy(folder, kind: Callable[[Path], Path], reason, remedy):
    path = kind(folder)
    line = refused(path)
    assert reason in line
    assert remedy in line
    assert str(path) in line or line.startswith("manifest.json")


def test_a_recorded_name_too_long_for_the_file_system_is_refused(folder):
    record_as(folder, "a" * 300)
    assert "cannot be read (File name too long)" in refused(folder)


def test_a_file_that_cannot_be_read_is_refused(folder, monkeypatch):
    """Root can read every file, so the test makes reading fail."""

    def broken(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("sam_edge_runtime.bundle.bundle.sha256_of", broken)
    assert f"{folder}/decoder.onnx cannot be read (Input/output error): " in refused(folder)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (lambda folder: folder, ()),
        (_edited, None),
        (_not_utf8, None),
        (_no_manifest, None),
        (_manifest_is_a_folder, None),
        (_a_file, None),
        (_nothing, None),
    ],
)
def test_only_a_bundle_as_it_was_exported_may_be_replaced(folder, kind, expected):
    assert foreign_files(kind(folder)) == expected


def test_files_that_no_export_wrote_are_foreign(folder):
    (folder / "notes.txt").write_text("mine")
    (folder / "weights" / "deep").mkdir()
    (folder / "weights" / "deep" / "more.txt").write_text("mine")
    (folder / ".DS_Store").touch()
    assert foreign_files(folder) == ("notes.txt", "weights/deep/more.txt")


@pytest.mark.parametrize("content", [b"the encodes", b"longer than before"], ids=["same size", "longer"])
def test_a_file_that_was_changed_since_the_export_is_foreign(folder, content):
    (folder / "encoder.onnx").write_bytes(content)
    assert foreign_files(folder) == ("encoder.onnx",)


def test_the_manifest_of_another_project_makes_no_bundle(tmp_path):
    extension = tmp_path / "extension"
    extension.mkdir()
    (extension / "manifest.json").write_text('{"manifest_version": 3, "name": "months of work", "version": "1.0"}')
    (extension / "background.js").write_text("work()")
    assert foreign_files(extension) is None


def test_a_bundle_that_a_killed_export_set_aside_opens_again(folder):
    folder.rename(folder.with_name(".bundle.0123456789ab.old"))
    assert Bundle.open(folder).encoder_path.is_file()
