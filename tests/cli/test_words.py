"""Words from export to masks: one small bundle with seeded words, and every command that takes text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sam_edge.cli.app import run
from sam_edge.prediction.promptable import open_model
from sam_edge_runtime import SamPredictor, read_photo
from sam_edge_runtime.agreement.golden import Golden
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.errors import PromptError
from tests.cli.errors import error_of

EXPORT = ("export", "--model", "nano", "--checkpoint", "random:0", "--words", "random:1", "--input-size", "256")


@pytest.fixture(scope="module")
def worded(tmp_path_factory) -> Path:
    """nano with seeded weights and seeded words at 256 pixels; read only."""
    out = tmp_path_factory.mktemp("words") / "bundle"
    assert run([*EXPORT, "--points", "4", "--out", str(out)]) == 0
    return out


def test_the_bundle_holds_the_vocabulary_and_its_golden_test_has_text(worded):
    bundle = Bundle.open(worded)
    manifest = bundle.manifest
    assert manifest.text is not None
    assert {"text.json", "text.bin"} <= set(manifest.files)
    assert len(bundle.vocabulary().names) == 131
    assert bundle.report()["passed"]
    golden = Golden.load(bundle.golden_path, manifest)
    named = [case for case in golden.cases if case.prompts.text is not None]
    assert sum(case.name.endswith("and box") for case in named) == len(golden.pictures)
    assert len(named) == 5 * len(golden.pictures)


def test_the_bundle_answers_words_as_torch_does(worded, photo):
    predictor = SamPredictor(worded)
    predictor.set_image(read_photo(photo))
    masks, scores, low_res = predictor.predict(text="kitten", multimask_output=False)
    assert masks.shape == (1, 80, 120)
    torch_model = open_model("nano", "random:0", 256, "random:1")
    reference = SamPredictor(predictor.bundle, backend=torch_model.backend)
    reference.set_image(read_photo(photo))
    _, expected, wanted = reference.predict(text=predictor.vocabulary.embed(["cat"])[0], multimask_output=False)
    np.testing.assert_allclose(low_res, wanted, atol=1e-3)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    np.testing.assert_allclose(predictor.object_scores, reference.object_scores, atol=1e-3)
    batch = predictor.predict_batch(texts=["dog", "cat"], multimask_output=False)
    np.testing.assert_allclose(batch[2][1], low_res, atol=1e-4)
    both = predictor.predict([[60, 40]], [1], text="cat")
    click = predictor.predict([[60, 40]], [1])
    assert both[0].shape == click[0].shape == (3, 80, 120)
    assert np.abs(both[2] - click[2]).max() > 1e-3
    with pytest.raises(PromptError, match="not finite"):
        predictor.predict(text=np.full(65, np.nan, np.float32))


def test_prompts_without_text_have_the_masks_of_the_bundle_without_words(worded, photo, tmp_path):
    assert run([*EXPORT[:5], "--input-size", "256", "--points", "4", "--out", str(tmp_path / "plain")]) == 0
    masks = []
    for bundle in (worded, tmp_path / "plain"):
        predictor = SamPredictor(bundle)
        predictor.set_image(read_photo(photo))
        masks.append([predictor.predict([[60, 40]], [1])[2], predictor.predict(box=[30, 20, 90, 60])[2]])
    np.testing.assert_allclose(masks[0], masks[1], atol=1e-5)
    assert json.loads((tmp_path / "plain" / "manifest.json").read_text())["format_version"] == 1


def test_predict_writes_a_mask_for_each_word(worded, photo, tmp_path, capsys):
    out = tmp_path / "out"
    code = run(["predict", str(worded), str(photo), "--text", "cats", "--text", "dog", "--json", "--out", str(out)])
    assert code == 0
    assert "cat, present" in capsys.readouterr().out
    document = json.loads((out / "photo.json").read_text())
    assert document["texts"] == ["cats", "dog"]
    assert [(each["text"], each["file"]) for each in document["masks"]] == [
        ("cat", "photo_mask_0.png"),
        ("dog", "photo_mask_1.png"),
    ]
    assert all(0 <= each["presence"] <= 1 for each in document["masks"])
    assert (out / "photo_overlay.png").is_file()


def test_segment_and_annotate_name_masks(worded, photo, tmp_path):
    options = ["--bundle", str(worded), "--points-per-side", "2", "--pred-iou-thresh", "0"]
    options += ["--stability-score-thresh", "0"]
    assert run(["segment", str(photo), *options, "--names", "--out", str(tmp_path / "all")]) == 0
    annotations = json.loads((tmp_path / "all" / "photo.json").read_text())["annotations"]
    known = set(Bundle.open(worded).vocabulary().names)
    assert all(each["name"] in known and 0 < each["name_score"] <= 1 for each in annotations if "name" in each)
    words = tmp_path / "names.txt"
    words.write_text("# mine\nkittens\ndog\n")
    assert run(["annotate", str(photo), *options, "--text", str(words), "--out", str(tmp_path / "shards")]) == 0


def test_text_that_cannot_be_used_gets_one_line(worded, exported, photo, tmp_path, capsys):
    predict = ("predict", worded, photo, "--out", tmp_path / "out")
    assert "'catt': the nearest are 'cat'" in error_of(capsys, *predict, "--text", "catt")
    assert "the text is empty" in error_of(capsys, *predict, "--text", " ")
    assert "2 texts are 2 prompts" in error_of(capsys, *predict, "--text", "cat", "--text", "dog", "--point", "5,5")
    boxes = ("--box", "1,1,9,9", "--box", "2,2,9,9")
    assert "a text belongs to one" in error_of(capsys, *predict, "--text", "cat", *boxes)
    assert "has no text" in error_of(capsys, "predict", exported, photo, "--text", "cat", "--out", tmp_path / "out")
    assert "knows no words" in error_of(capsys, "segment", photo, "--bundle", exported, "--names", "--out", tmp_path)
    words = tmp_path / "names.txt"
    words.write_text("\n# nothing\n")
    assert "names no words" in error_of(capsys, "annotate", photo, "--bundle", worded, "--text", words)
    words.write_text("catt\n")
    refused = ("annotate", photo, "--bundle", worded, "--text", words, "--out", tmp_path / "shards")
    assert "'catt'" in error_of(capsys, *refused)
    assert not (tmp_path / "shards").exists()
    broken = Path(shutil.copytree(worded, tmp_path / "broken"))
    (broken / "text.bin").write_bytes(bytes((broken / "text.bin").stat().st_size))
    assert "text.bin has SHA-256" in error_of(capsys, "predict", broken, photo, "--text", "cat")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--model", "tiny_vit", "--checkpoint", "random:0", "--words", "shipped"), "--words is for --model nano only"),
        (("--words", "missing.safetensors"), "no words at missing.safetensors"),
        (("--words", "random:0", "--layout", "official"), "no text"),
        (("--words", "random:0", "--target", "coreml", "--graph", "ane"), "takes text"),
    ],
)
def test_words_that_cannot_be_exported_get_one_line(options, says, tmp_path, capsys):
    assert says in error_of(capsys, "export", *options, "--out", tmp_path / "bundle")
