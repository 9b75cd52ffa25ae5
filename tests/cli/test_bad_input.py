"""Bad input gives one clear line and exit code 2, never a traceback, and no file is lost or half-written.

The table is the contract: each row is a command line, and words that its one line must hold.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam_edge.cli.app import run
from sam_edge_runtime.bundle.document import digest_of

EXPORT = ("export", "--model", "tiny_vit", "--input-size", "256")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """An empty cache of weights, and the test's own folder as the current one."""
    monkeypatch.setenv("SAM_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path, says: tuple[str, ...]) -> str:
    """Run, and check exit code, form and words of the error message."""
    code = run([str(argument) for argument in arguments])
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert code == 2, error
    assert len(lines) == 1, error
    assert "Traceback" not in error
    for words in says:
        assert words in lines[0], lines[0]
    return lines[0]


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith((".partial", ".old"))]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "vit_x", "--checkpoint", "random:0"), ("'vit_x'", "vit_b")),
        (("--checkpoint", "missing.pth"), ("missing.pth",)),
        (("--checkpoint", "random:abc"), ("random:abc", "random:0")),
        (("--checkpoint", "random:-1"), ("random:-1",)),
        ((), ("sam-edge download tiny_vit", "--checkpoint")),
        (("--checkpoint", "random:0", "--input-size", "1000"), ("1000", "multiple of 64")),
        (("--checkpoint", "random:0", "--input-size", "0"), ("0", "multiple of 64")),
        (("--checkpoint", "random:0", "--points", "1"), ("--points 1", "two slots")),
        (("--checkpoint", "random:0", "--prompts", "0"), ("--prompts 0", "at least 1")),
        (("--checkpoint", "random:0", "--prompts", "0,8"), ("--prompts 0", "at least 1")),
        (("--checkpoint", "random:0", "--prompts", "1,8"), ("--prompts 1,8", "TFLite", "one number for --target onnx")),
        (("--target", "tflite,coreml", "--prompts", "8,1"), ("--prompts 1,8", "one number for --target coreml")),
        (("--prompts", "1;8"), ("--prompts '1;8'", "several such as 1,8")),
        (("--prompts", ""), ("--prompts ''", "give one such as 8")),
        (("--checkpoint", "random:0", "--target", "tensorrt"), ("'tensorrt'", "onnx")),
        (("--checkpoint", "random:0", "--target", "onnx,onix"), ("'onix'", "onnx, coreml, tflite, or all")),
        (("--checkpoint", "random:0", "--precision", "int3"), ("'int3'", "fp32")),
        (("--precision", "mixed"), ("--precision mixed", "target onnx", "fp32, fp16")),
        (("--target", "all", "--precision", "fp16,mixed"), ("--precision mixed", "target onnx")),
        (("--graph", "ane"), ("--graph ane", "--target coreml", "onnx")),
        (("--target", "coreml", "--graph", "tpu"), ("'tpu'", "plain, ane")),
        (("--target", "tflite", "--picture-input"), ("--picture-input", "--target coreml", "tflite")),
        (("--target", "coreml", "--graph", "ane", "--flexible"), ("--flexible", "--graph ane", "fixed shapes")),
        (("--target", "all", "--flexible"), ("--flexible", "tflite", "--prompts 1,8")),
        (("--precision", "auto", "--loss", "0.005"), ("--loss 0.005", "--labelled")),
        (("--precision", "auto", "--confidence", "0.9"), ("--confidence 0.9", "--labelled")),
        (("--precision", "auto", "--labelled", "val.tar"), ("--labelled", "--loss 0.005")),
        (("--precision", "w8a8", "--labelled", "val.tar", "--loss", "0.005"), ("--labelled", "--precision auto")),
        (("--precision", "auto", "--labelled", "val.tar", "--loss", "0"), ("--loss 0.0", "above 0 and below 1")),
        (("--precision", "auto", "--labelled", "val.tar", "--loss", "nan"), ("--loss nan", "above 0 and below 1")),
        (
            ("--precision", "auto", "--labelled", "val.tar", "--loss", "0.01", "--confidence", "1"),
            ("--confidence 1.0", "less than 1"),
        ),
        (
            ("--precision", "auto", "--labelled", "val.tar", "--loss", "0.01", "--labelled-photos", "5"),
            ("--labelled-photos 5", "0.95", "use 6 or more"),
        ),
        (("--precision", "auto", "--tuner", "optuna"), ("'optuna'", "sam-edge, neural-compressor")),
        (("--precision", "w8a8", "--tuner", "neural-compressor"), ("--tuner neural-compressor", "--precision auto")),
        (
            ("--checkpoint", "random:0", "--precision", "auto", "--labelled", "val.tar", "--loss", "0.01"),
            ("val.tar",),
        ),
    ],
)
def test_export_arguments(capsys, tmp_path, arguments, says):
    refused(capsys, *EXPORT, *arguments, "--out", "new", says=says)
    assert not (tmp_path / "new").exists()
    assert leftovers(tmp_path) == []


class RunsCode:
    """A pickle that would leave a file behind if anyone unpickled it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


class TestCheckpoint:
    def test_truncated(self, capsys, tmp_path):
        torch.save({"weight": torch.zeros(10_000)}, "whole.pth")
        Path("cut.pth").write_bytes(Path("whole.pth").read_bytes()[:20_000])
        refused(capsys, *EXPORT, "--checkpoint", "cut.pth", "--out", "new", says=("cut.pth",))
        assert not (tmp_path / "new").exists()

    def test_of_another_architecture_names_the_first_keys_and_the_variant(self, capsys, tmp_path):
        torch.save({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 768)}, "sam_b.pth")
        line = refused(capsys, *EXPORT, "--checkpoint", "sam_b.pth", "--out", "new", says=("image_encoder.", "vit_b"))
        assert "pos_embed" in line
        assert not (tmp_path / "new").exists()

    def test_a_pickle_cannot_run_code(self, capsys, tmp_path):
        marker = tmp_path / "ran"
        torch.save({"weight": RunsCode(marker)}, "torch.pth")
        with Path("plain.pth").open("wb") as stream:
            pickle.dump(RunsCode(marker), stream)
        for name in ("torch.pth", "plain.pth"):
            refused(capsys, *EXPORT, "--checkpoint", name, "--out", "new", says=(name,))
        assert not marker.exists()


class TestDestination:
    def test_an_existing_bundle_needs_overwrite(self, capsys, bundle):
        before = (bundle / "manifest.json").read_text()
        refused(capsys, *EXPORT, "--checkpoint", "random:0", "--out", bundle, says=("exists", "--overwrite"))
        assert (bundle / "manifest.json").read_text() == before

    def test_a_folder_that_is_no_bundle_is_never_replaced(self, capsys, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("years of work")
        arguments = (*EXPORT, "--checkpoint", "random:0", "--out", "mine", "--overwrite")
        refused(capsys, *arguments, says=("mine", "not made by sam-edge"))
        assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"

    def test_a_failed_export_keeps_the_bundle_that_it_was_to_replace(self, capsys, bundle):
        before = {path.name: path.read_bytes() for path in bundle.iterdir()}
        torch.save({"weight": torch.zeros(1)}, "wrong.pth")
        refused(capsys, *EXPORT, "--checkpoint", "wrong.pth", "--out", bundle, "--overwrite", says=("wrong.pth",))
        assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before

    def test_too_little_space_is_reported_before_the_work(self, capsys, tmp_path, monkeypatch):
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
        refused(capsys, *EXPORT, "--checkpoint", "random:0", "--out", "new", says=("no space", "MB"))
        assert not (tmp_path / "new").exists()

    def test_a_disk_that_fills_up_leaves_no_files(self, tmp_path):
        """A real failing write: no file of this process may grow beyond 100 kB."""
        code = "import sys; from sam_edge.cli.app import run; sys.exit(run(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, *EXPORT, "--checkpoint", "random:0", "--out", "new"],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        )
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert "no space" in done.stderr
        assert not (tmp_path / "new").exists()
        assert leftovers(tmp_path) == []


def edit(bundle: Path, *, sign: bool = True, **changes: object) -> None:
    """Change top-level fields of a manifest; with `sign` the digest is made to fit, as an attacker would."""
    path = bundle / "manifest.json"
    document = {**json.loads(path.read_text()), **changes}
    if sign:
        document["digest"] = digest_of({key: value for key, value in document.items() if key != "digest"})
    path.write_text(json.dumps(document))


def files_with(bundle: Path, name: str) -> dict[str, object]:
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    return {**files, name: files["golden.npz"]}


def break_nothing(bundle: Path) -> None:
    shutil.rmtree(bundle)


def break_manifest_missing(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


def break_manifest_text(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("{")


def break_manifest_edited(bundle: Path) -> None:
    edit(bundle, sign=False, precision="int8")


def break_manifest_newer(bundle: Path) -> None:
    edit(bundle, format_version=99)


def break_manifest_shape(bundle: Path) -> None:
    document = json.loads((bundle / "manifest.json").read_text())
    document["encoder"]["inputs"][0]["shape"] = [1, 3, 512, 512]
    edit(bundle, encoder=document["encoder"])


def break_hash(bundle: Path) -> None:
    content = bytearray((bundle / "encoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "encoder.onnx").write_bytes(content)


def break_size(bundle: Path) -> None:
    (bundle / "decoder.onnx").write_bytes((bundle / "decoder.onnx").read_bytes()[:-1])


def break_file_missing(bundle: Path) -> None:
    (bundle / "decoder.onnx").unlink()


def break_path_up(bundle: Path) -> None:
    shutil.copy(bundle / "golden.npz", bundle.parent / "stolen")
    edit(bundle, files=files_with(bundle, "../stolen"))


def break_path_absolute(bundle: Path) -> None:
    edit(bundle, files=files_with(bundle, str((bundle / "golden.npz").absolute())))


def break_path_link(bundle: Path) -> None:
    content = bytearray((bundle / "encoder.onnx").read_bytes())
    content[-1] ^= 1
    (bundle.parent / "elsewhere.onnx").write_bytes(content)
    (bundle / "encoder.onnx").unlink()
    (bundle / "encoder.onnx").symlink_to(bundle.parent / "elsewhere.onnx")


@pytest.mark.parametrize("verb", ["verify", "info", "predict"])
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (break_nothing, ("does not exist",)),
        (break_manifest_missing, ("no bundle", "manifest.json")),
        (break_manifest_text, ("not JSON",)),
        (break_manifest_edited, ("edited",)),
        (break_manifest_newer, ("99", "upgrade")),
        (break_manifest_shape, ("encoder.inputs", "contract")),
        (break_hash, ("encoder.onnx", "SHA-256")),
        (break_size, ("decoder.onnx", "bytes")),
        (break_file_missing, ("decoder.onnx", "missing")),
        (break_path_up, ("../stolen", "inside the bundle")),
        (break_path_absolute, ("inside the bundle",)),
        (break_path_link, ("encoder.onnx", "SHA-256")),
    ],
)
def test_broken_bundles(capsys, bundle, photo, verb, fault, says):
    fault(bundle)
    arguments = (photo, "--point", "10,10") if verb == "predict" else ()
    refused(capsys, verb, bundle, *arguments, says=says)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--checkpoint", "random:1"), ("random:1", "random:0")),
        (("--images", "nowhere"), ("nowhere", "does not exist")),
        (("--images", "empty"), ("empty holds no photos", ".jpg")),
        (("--images", "bad"), ("no photo in bad", "note.jpg")),
        (("--threads", "0"), ("threads 0",)),
        (("--provider", "abacus"), ("'abacus'", "cpu")),
        (("--out", "bad"), ("bad", "not made by sam-edge")),
    ],
)
def test_verify_arguments(capsys, exported, tmp_path, arguments, says):
    Path("empty").mkdir()
    Path("bad").mkdir()
    Path("bad/note.jpg").write_text("not a photo")
    refused(capsys, "verify", exported, "--out", "report", *arguments, says=says)
    assert not (tmp_path / "report").exists()


def test_a_malformed_golden_test(capsys, bundle):
    (bundle / "golden.npz").write_bytes(b"PK\x03\x04 not really")
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    from sam_edge_runtime.bundle.bundle import record_files

    record = record_files(bundle)["golden.npz"]
    files["golden.npz"] = {"sha256": record.sha256, "bytes": record.bytes}
    edit(bundle, files=files)
    refused(capsys, "verify", bundle, "--out", "report", says=("golden.npz", "export the bundle again"))


def npy_header(text: str) -> bytes:
    """A `.npy` file that ends after its header (numpy.lib.format, version 1.0)."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), ("there is no prompt", "--point")),
        (("--point", "10"), ("'10'", "X,Y")),
        (("--point", "a,b"), ("'a,b'", "X,Y")),
        (("--point", "nan,3"), ("'nan,3'",)),
        (("--point", "inf,3"), ("'inf,3'",)),
        (("--point", "10,10,7"), ("label 7", "1 (inside)")),
        (("--point", "121,10"), ("(121, 10)", "outside", "120x80")),
        (("--point", "-1,10"), ("(-1, 10)", "outside")),
        (("--box", "1,2,3"), ("'1,2,3'", "X0,Y0,X1,Y1")),
        (("--box", "50,50,10,60"), ("(50, 50, 10, 60)", "x0 < x1")),
        (("--box", "500,500,600,600"), ("(500, 500, 600, 600)", "outside")),
        (("--box", "1,1,9,9", "--box", "2,2,9,9", "--point", "5,5"), ("2 boxes", "run one command for each box")),
        (("-p", "1,1", "-p", "2,2", "-p", "3,3", "-p", "4,4"), ("5 slots", "has 4", "--points 5")),
        (("--mask-input", "missing.npy"), ("missing.npy", "--save-logits")),
        (("--mask-input", "small.npy"), ("small.npy", "64 x 64")),
        (("--mask-input", "objects.npy"), ("objects.npy",)),
        (("--mask-input", "nan.npy"), ("not finite",)),
        (("--mask-input", "."), (".", "--save-logits")),
        (("--mask-input", "m" * 300), ("mmm", "--save-logits")),
        (("--mask-input", "empty.npy"), ("empty.npy", "--save-logits")),
        (("--mask-input", "cut.npy"), ("cut.npy", "--save-logits")),
        (("--mask-input", "claims.npy"), ("claims.npy", "--save-logits")),
        (("--mask-input", "overflows.npy"), ("overflows.npy", "--save-logits")),
        (("--mask-input", "open.npy"), ("open.npy", "--save-logits")),
        (("--mask-input", "keys.npy"), ("keys.npy", "--save-logits")),
        (("--mask-input", "zip.npy"), ("zip.npy", "--save-logits")),
        (("--mask-input", "several.npz"), ("several.npz", "--save-logits")),
        (("--point", "1,1", "--threads", "0"), ("threads 0",)),
        (("--point", "1,1", "--provider", "abacus"), ("'abacus'",)),
        (("--point", "1,1", "--out", "photo.png"), ("photo.png",)),
    ],
)
def test_predict_arguments(capsys, exported, photo, arguments, says):
    np.save("small.npy", np.zeros((8, 8), np.float32))
    np.save("objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save("nan.npy", np.full((64, 64), np.nan, np.float32))
    np.savez("several.npz", first=np.zeros(1), second=np.zeros(1))
    Path("zip.npy").write_bytes(b"PK\x03\x04 not really")
    Path("empty.npy").touch()
    Path("cut.npy").write_bytes(Path("nan.npy").read_bytes()[:1000])
    Path("claims.npy").write_bytes(npy_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 50},)}}"))
    Path("overflows.npy").write_bytes(npy_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 70},)}}"))
    Path("open.npy").write_bytes(npy_header("{'descr': ("))
    Path("keys.npy").write_bytes(npy_header("{'descr': '<f4', 1: 2}"))
    refused(capsys, "predict", exported, photo, *arguments, says=says)
    assert not Path("out").exists()
    assert leftovers(Path.cwd()) == []


def bomb() -> None:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""
    Image.new("L", (1, 1)).save("bomb.png")
    content = bytearray(Path("bomb.png").read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    Path("bomb.png").write_bytes(content)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.jpg", ("missing.jpg",)),
        ("folder", ("folder",)),
        ("zero.jpg", ("zero.jpg", "empty")),
        ("text.jpg", ("text.jpg",)),
        ("cut.png", ("cut.png",)),
        ("bomb.png", ("bomb.png", "pixels")),
    ],
)
def test_photos(capsys, exported, photo, name, says):
    Path("folder").mkdir()
    Path("zero.jpg").touch()
    Path("text.jpg").write_text("no photo")
    Path("cut.png").write_bytes(photo.read_bytes()[:300])
    bomb()
    refused(capsys, "predict", exported, name, "--point", "1,1", says=says)
    assert not Path("out").exists()


def test_results_of_an_earlier_run_are_kept_without_overwrite(capsys, exported, photo):
    arguments = ("predict", exported, photo, "--point", "60,40", "--json")
    assert run([str(argument) for argument in arguments]) == 0
    Path("out/photo_mask.png").write_text("mine")
    Path("out/photo_overlay.png").unlink()
    refused(capsys, *arguments, says=("photo_mask.png", "--overwrite"))
    assert Path("out/photo_mask.png").read_text() == "mine"
    assert not Path("out/photo_overlay.png").exists()
    assert run([*map(str, arguments), "--overwrite"]) == 0
    assert Path("out/photo_overlay.png").exists()


def test_every_destination_is_checked_before_the_model_runs(capsys, exported, photo, monkeypatch):
    def encode(self, image):
        raise AssertionError("the encoder ran")

    monkeypatch.setattr("sam_edge_runtime.backends.onnx.OnnxBackend.encode", encode)
    Path("out/photo_overlay.png").mkdir(parents=True)
    arguments = ("predict", exported, photo, "--point", "60,40", "--overwrite")
    refused(capsys, *arguments, says=("photo_overlay.png", "is a folder", "name a file"))
    long = photo.rename(f"{'p' * 245}.png")  # the name of its mask just fits, that of its overlay does not
    refused(capsys, "predict", exported, long, "--point", "60,40", says=("_overlay.png", "choose another"))
    assert [path.name for path in Path("out").iterdir()] == ["photo_overlay.png"]


@pytest.mark.parametrize("standing", [True, False], ids=["over an earlier run", "fresh"])
def test_a_disk_that_fills_up_between_two_results_leaves_neither(exported, photo, standing):
    """A real failing write: no file may grow beyond 4 kB; the mask stays below it, the overlay does not."""
    arguments = ("predict", str(exported), str(photo), "--point", "60,40", "--out")
    assert run([*arguments, "room"]) == 0
    sizes = {path.name: path.stat().st_size for path in Path("room").iterdir()}
    assert sizes["photo_mask.png"] < 4096 < sizes["photo_overlay.png"]
    if standing:
        Path("out").mkdir()
        for name in sizes:
            Path("out", name).write_text("mine")
    code = "import sys; from sam_edge.cli.app import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "out", "--overwrite"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "no space to write out/photo_overlay.png" in " ".join(done.stderr.split())
    if standing:
        assert {path.name: path.read_text() for path in Path("out").iterdir()} == dict.fromkeys(sizes, "mine")
    else:
        assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("describe", "missing"), ("no data at missing",)),
        (("describe", "notes.json"), ("notes.json", "describes no photos")),
        (("describe", "notes.json", "notes.json"), ("notes.json is named twice",)),
        (("describe", "shard.tar"), ("shard.tar is not a tar",)),
        (("describe", "photos", "--jobs", "0"), ("--jobs 0",)),
        (("describe", "photos", "--out", "photos"), ("photos exists", "not made by sam-edge")),
        (("compare", "photos", "photos"), ("photos is named twice",)),
        (("compare", "photos", "missing"), ("photos has photos without masks",)),
        (("convert", "photos", "out", "--to", "coco"), ("photos has photos without masks",)),
        (("convert", "photos", "out", "--to", "yolo"), ("'yolo'", "sa1b, coco, lvis, labelme, voc, cityscapes")),
        (("convert", "photos", "photos", "--to", "coco"), ("photos exists", "not made by sam-edge")),
        (("convert", "broken", "out", "--to", "coco"), ("none of the 1 records", "truncated")),
        (("convert", "photos", "out", "--to", "voc", "--masks", "rle"), ("--masks",)),
    ],
)
def test_data_sets(capsys, tmp_path, arguments, says):
    (tmp_path / "notes.json").write_text('{"a": 1}')
    (tmp_path / "shard.tar").write_bytes(b"no tar")
    for name in ("photos", "broken"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / "a.png")
    (tmp_path / "broken" / "a.json").write_text('{"image": ')
    refused(capsys, "data", *arguments, says=says)
    assert not (tmp_path / "out").exists()
    assert not leftovers(tmp_path)


def test_downloads_of_unknown_models(capsys):
    refused(capsys, "download", "vit_x", says=("vit_x", "vit_b"))


@pytest.mark.parametrize("arguments", [("frobnicate",), ("export", "--points", "many"), ("predict",)])
def test_misspelt_command_lines_exit_with_2(capsys, arguments):
    assert run(list(arguments)) == 2
    error = capsys.readouterr().err
    assert re.search(r"No such command|Invalid value|Missing argument", error)
