"""Each verb does what its help says, on a small bundle that the export verb made."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from pycocotools import mask as coco

from sam_edge.cli.app import GROUPS, VERBS, run
from sam_edge.model.transformer import EMPTY_SLOT_BIAS
from sam_edge_runtime import Bundle, SamPredictor, read_photo
from sam_edge_runtime.bundle.bundle import record_files
from sam_edge_runtime.bundle.manifest import RANDOM_WEIGHTS_NOTE, Checkpoint, Manifest
from tests.conftest import SMALL_POINTS, SMALL_SIDE
from tests.reference import reference_bbox


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def resave(bundle: Path, **changes: object) -> None:
    """Update hashes and manifest to the folder's files."""
    manifest = Manifest.from_json((bundle / "manifest.json").read_text())
    manifest = replace(manifest, files=record_files(bundle), **changes)
    (bundle / "manifest.json").write_text(manifest.to_json())


def test_every_verb_has_help_with_an_example(capsys):
    grouped = [f"{group} {name}" for group, (_, verbs) in GROUPS.items() for name in verbs]
    for verb in (*VERBS, *grouped):
        assert run([*verb.split(), "--help"]) == 0
        text = capsys.readouterr().out
        if verb != "models":
            assert f"sam-edge {verb}" in " ".join(text.split()), verb


def test_listing_and_help_load_neither_torch_nor_a_converter():
    code = (
        "import sys; from sam_edge.cli.app import run; run(['models']); run(['export', '--help']);"
        "run(['data', 'describe', '--help']);"
        "run(['engine', 'run', '--help']);"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_models_names_every_variant_its_address_and_its_hash(capsys):
    from sam_edge.weights.catalogue import RELEASES

    assert run(["models"]) == 0
    text = capsys.readouterr().out
    for name, release in RELEASES.items():
        assert name in text
        assert release.url in text
        assert release.sha256 in text


def test_export_writes_a_complete_bundle_with_its_manifest(exported):
    opened = Bundle.open(exported)
    manifest = opened.manifest
    assert sorted(path.name for path in exported.iterdir()) == [
        "decoder.onnx",
        "encoder.onnx",
        "golden.npz",
        "manifest.json",
        "report.json",
    ]
    assert (manifest.variant, manifest.target, manifest.precision) == ("tiny_vit", "onnx", "fp32")
    assert (manifest.input_side, manifest.points, manifest.prompts) == (SMALL_SIDE, SMALL_POINTS, None)
    assert manifest.checkpoint.random
    report = json.loads((exported / "report.json").read_text())
    assert report["passed"]
    assert RANDOM_WEIGHTS_NOTE in report["weights"]
    assert report["figures"]["mask_miou"] >= 0.999
    assert json.loads((exported / "manifest.json").read_text())["note"] == RANDOM_WEIGHTS_NOTE


@pytest.mark.slow
def test_two_exports_of_the_same_weights_have_the_same_hashes(exported, tmp_path):
    again = tmp_path / "again"
    arguments = ["--model", "tiny_vit", "--checkpoint", "random:0", "--input-size", str(SMALL_SIDE)]
    assert run(["export", *arguments, "--points", str(SMALL_POINTS), "--out", str(again)]) == 0
    first, second = Bundle.open(exported).manifest, Bundle.open(again).manifest
    for name in ("encoder.onnx", "decoder.onnx", "golden.npz"):
        assert first.files[name] == second.files[name], name


def test_info_describes_a_bundle(exported, capsys):
    assert run(["info", str(exported)]) == 0
    text = capsys.readouterr().out
    for part in ("tiny_vit", "random:0", "256 x 256", "low_res_masks", "slots a prompt", "4"):
        assert part in text


def test_info_prints_the_manifest_and_the_report_as_json(exported, bundle, capsys):
    assert run(["info", str(exported), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["manifest"] == json.loads((exported / "manifest.json").read_text())
    assert said["report"] == json.loads((exported / "report.json").read_text())
    (bundle / "encoder.onnx").write_bytes(b"")
    assert run(["info", str(bundle), "--json"]) == 2
    assert capsys.readouterr().out == ""


class TestVerify:
    def test_against_torch_on_photos_with_a_report(self, exported, photo, tmp_path, capsys):
        out = tmp_path / "report"
        (tmp_path / "broken.jpg").write_bytes(b"no photo")
        assert run(["verify", str(exported), "--images", str(tmp_path), "--out", str(out)]) == 0
        captured = capsys.readouterr()
        assert "fp32 torch" in captured.out
        assert "left out" in captured.err
        report = json.loads((out / "report.json").read_text())
        assert report["reference"] == "fp32 torch"
        assert report["figures"]["mask_miou"] >= 0.999
        assert report["figures"]["iou_prediction_error"] <= 1e-3
        # The one prompt of five slots does not fit into the decoder of four.
        assert report["figures"]["prompts"] == 27
        assert report["skipped_prompts"] == 1
        assert len(report["unreadable"]) == 1
        page = (out / "report.html").read_text()
        assert page.count("data:image/jpeg;base64,") == 9  # three kinds of prompt, three panels each
        assert "The weights are random" in page

    def test_without_torch_the_golden_answers_are_the_reference(self, exported, tmp_path):
        code = (
            "import sys; sys.modules['torch'] = None\n"
            "import importlib.util as u; find = u.find_spec\n"
            "u.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
            "from sam_edge.cli.app import run; sys.exit(run(sys.argv[1:]))"
        )
        arguments = ["verify", str(exported), "--out", str(tmp_path / "report")]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "golden.npz" in done.stdout
        assert json.loads((tmp_path / "report" / "report.json").read_text())["reference"] == "golden.npz"

    def test_a_second_run_replaces_its_own_report_and_nothing_else(self, exported, tmp_path, monkeypatch):
        monkeypatch.setattr("sam_edge.verification.reference.torch_is_there", lambda: False)  # golden is quick
        out = tmp_path / "report"
        assert run(["verify", str(exported), "--out", str(out)]) == 0
        assert run(["verify", str(exported), "--out", str(out)]) == 0
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("years of work")
        assert run(["verify", str(exported), "--out", str(tmp_path / "mine")]) == 2
        assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"

    def test_the_report_lies_beside_the_bundle_for_any_path_to_it(self, bundle, tmp_path, monkeypatch):
        monkeypatch.setattr("sam_edge.verification.reference.torch_is_there", lambda: False)
        monkeypatch.chdir(bundle)
        assert run(["verify", "."]) == 0
        assert (tmp_path / "bundle-report" / "report.json").is_file()
        assert not (bundle / "b-report").exists()
        assert sorted(path.name for path in bundle.iterdir())[-1] == "report.json"

    def test_a_photo_too_narrow_for_the_frame_is_left_out(self, exported, photo, tmp_path, capsys):
        Image.fromarray(np.zeros((1, 2000, 3), np.uint8)).save(tmp_path / "line.png")
        assert run(["verify", str(exported), "--images", str(tmp_path), "--out", str(tmp_path / "report")]) == 0
        assert "line.png" in capsys.readouterr().err

    def test_names_with_brackets_are_printed_unchanged(self, bundle, photo, tmp_path, capsys):
        """Square brackets are markup for rich; a name with brackets must be printed unchanged."""
        resave(bundle, checkpoint=Checkpoint("sam[v2]randomcrop[/x].pth", "0" * 64, random=False))
        assert run(["info", str(bundle)]) == 0
        assert "sam[v2]randomcrop[/x].pth" in "".join(capsys.readouterr().out.split())
        odd = photo.rename(photo.with_name("cat[red].png"))
        assert run(["predict", str(bundle), str(odd), "-p", "60,40", "--out", str(tmp_path / "out")]) == 0
        assert "cat[red]_mask.png" in capsys.readouterr().out
        assert run(["verify", str(bundle), "--out", str(tmp_path / "report")]) == 0
        assert "random" not in capsys.readouterr().out.replace("randomcrop", "")
        assert "The weights are random" not in (tmp_path / "report" / "report.html").read_text()

    def test_a_fixed_decoder_that_sees_its_empty_slots_is_caught(self, bundle, photo, tmp_path, capsys):
        """The reference gets no empty slots, so a missing mask of empty slots cannot cancel out."""
        model = onnx.load(bundle / "decoder.onnx")
        biases = [t for t in model.graph.initializer if numpy_helper.to_array(t).tolist() == EMPTY_SLOT_BIAS]
        assert len(biases) == 1
        biases[0].CopyFrom(numpy_helper.from_array(np.array(0.0, np.float32), biases[0].name))
        onnx.save(model, bundle / "decoder.onnx")
        resave(bundle)
        arguments = ["--images", str(photo), "--out", str(tmp_path / "report")]
        assert run(["verify", str(bundle), *arguments]) == 1
        assert "bound missed: mask mIoU" in capsys.readouterr().err

    def test_a_bundle_that_lost_accuracy_is_caught_and_exits_1(self, bundle, tmp_path, capsys):
        """One weight of the decoder is changed, and hashes and manifest are updated."""
        model = onnx.load(bundle / "decoder.onnx")
        weight = next(t for t in model.graph.initializer if t.dims == [128, 64])  # the second upscaling
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[::-1].copy(), weight.name))
        onnx.save(model, bundle / "decoder.onnx")
        resave(bundle)
        assert run(["verify", str(bundle), "--out", str(tmp_path / "report")]) == 1
        assert "bound missed: mask mIoU" in capsys.readouterr().err
        assert not json.loads((tmp_path / "report" / "report.json").read_text())["passed"]


class TestPredict:
    def test_masks_overlay_and_json_agree_with_the_predictor(self, exported, photo, tmp_path):
        out = tmp_path / "out"
        arguments = ["--point", "60,40", "--point", "5,5,0", "--multimask", "--json", "--out", str(out)]
        assert run(["predict", str(exported), str(photo), *arguments]) == 0
        predictor = SamPredictor(exported)
        predictor.set_image(read_photo(photo))
        masks, scores, _ = predictor.predict(np.array([[60, 40], [5, 5]]), np.array([1, 0]))
        document = json.loads((out / "photo.json").read_text())
        assert document["note"] == RANDOM_WEIGHTS_NOTE
        for index, record in enumerate(document["masks"]):
            stored = pixels(out / f"photo_mask_{index}.png") > 0
            np.testing.assert_array_equal(stored, masks[index])
            np.testing.assert_array_equal(coco.decode(record["segmentation"]).astype(bool), masks[index])
            assert record["predicted_iou"] == pytest.approx(scores[index])
            assert record["area"] == masks[index].sum()
            assert record["bbox"] == reference_bbox(masks[index])
        assert pixels(out / "photo_overlay.png").shape == (80, 120, 3)

    def test_one_mask_for_each_of_several_boxes(self, exported, photo, tmp_path):
        out = tmp_path / "out"
        boxes = [part for box in ("5,5,50,50", "40,20,100,70", "0,0,120,80") for part in ("--box", box)]
        assert run(["predict", str(exported), str(photo), *boxes, "--out", str(out)]) == 0
        names = sorted(path.name for path in out.iterdir())
        assert names == ["photo_mask_0.png", "photo_mask_1.png", "photo_mask_2.png", "photo_overlay.png"]

    def test_saved_logits_are_a_mask_prompt(self, exported, photo, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        assert run(["predict", str(exported), str(photo), "-p", "60,40", "--save-logits", "--out", str(first)]) == 0
        logits = first / "photo_logits.npy"
        assert np.load(logits).shape == (1, SMALL_SIDE // 4, SMALL_SIDE // 4)
        arguments = ["-p", "60,40", "--mask-input", str(logits), "--json", "--out", str(second)]
        assert run(["predict", str(exported), str(photo), *arguments]) == 0
        predictor = SamPredictor(exported)
        predictor.set_image(read_photo(photo))
        _, scores, _ = predictor.predict(
            np.array([[60, 40]]), np.array([1]), mask_input=np.load(logits), multimask_output=False
        )
        stored = json.loads((second / "photo.json").read_text())["masks"][0]["predicted_iou"]
        assert stored == pytest.approx(float(scores[0]), abs=1e-6)

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
    def test_photos_of_every_kind(self, exported, photo, tmp_path, mode):
        path = tmp_path / "kind.png"
        rgb = Image.fromarray(pixels(photo))
        if mode == "I;16":
            Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257).save(path)
        else:
            rgb.convert(mode).save(path)
        assert run(["predict", str(exported), str(path), "-p", "60,40", "--out", str(tmp_path / "out")]) == 0
        assert pixels(tmp_path / "out" / "kind_mask.png").shape == (80, 120)


@pytest.mark.parametrize(("model", "checkpoint"), [("nano", None), ("tiny_vit", "random:0")])
def test_demo_prints_the_commands_it_runs_and_leaves_pictures(model, checkpoint, tmp_path, monkeypatch, capsys):
    """The verbs are tested above; this tests the arguments that the demo passes to them."""
    from sam_edge.cli import export, predict, segment, verify
    from sam_edge.data.sample_photos import DEMO_PROMPTS
    from sam_edge.prompting.parsing import parse_box, parse_point

    monkeypatch.setenv("SAM_EDGE_CACHE", str(tmp_path / "empty"))
    calls: list[tuple[str, dict[str, object]]] = []
    for module in (export, predict, segment, verify):
        name = module.__name__.rsplit(".", 1)[-1]
        monkeypatch.setattr(module, "command", lambda *_, _name=name, **given: calls.append((_name, given)))
    arguments = [] if model == "nano" else ["--model", model]
    assert run(["demo", "--out", str(tmp_path / "demo"), *arguments]) == 0
    assert [name for name, _ in calls] == ["export", *["predict"] * len(DEMO_PROMPTS), "segment", "verify"]
    assert (calls[0][1]["model"], calls[0][1]["checkpoint"]) == (model, checkpoint)
    said = capsys.readouterr()
    told = " ".join(said.err.split())
    assert ("random" in told) == (checkpoint is not None)
    assert (str(tmp_path / "empty" / "mobile_sam.pt") in told.replace(" ", "")) == (model == "tiny_vit")
    assert "sam-edge download tiny_vit" in told
    # nano's shortcoming is said of nano alone.
    assert ("does not do well" in said.out) == (model == "nano")
    for prompt, (_, given) in zip(DEMO_PROMPTS, calls[1:-2], strict=True):
        assert [parse_point(text) for text in given["point"]] == [tuple(point) for point in prompt.points]
        assert [parse_box(text) for text in given["box"]] == ([] if prompt.box is None else [prompt.box])
    assert sorted(path.name for path in Path(tmp_path / "demo" / "photos").iterdir()) == [
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
    ]


@pytest.mark.slow
def test_several_targets_are_exported_and_verified_at_once(tmp_path, capsys):
    out = tmp_path / "nano"
    arguments = ["--input-size", str(SMALL_SIDE), "--points", str(SMALL_POINTS), "--target", "onnx,coreml,onnx"]
    assert run(["export", *arguments, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["coreml", "onnx"]
    assert "all bundles" in capsys.readouterr().out
    for _ in range(2):  # the second time `out/*` finds reports too
        assert run(["verify", *map(str, sorted(out.iterdir()))]) == 0
        text = capsys.readouterr().out
        assert "all bundles" in text
        assert "computed by ONNX Runtime" in " ".join(text.split())
        assert sorted(path.name for path in out.iterdir()) == ["coreml", "coreml-report", "onnx", "onnx-report"]
    page = (out / "coreml-report" / "report.html").read_text()
    assert json.loads((out / "coreml-report" / "report.json").read_text())["engine"] in page
    assert run(["verify", str(out / "onnx"), str(out / "coreml"), "--out", str(tmp_path / "report")]) == 2
    assert "--out" in capsys.readouterr().err
