"""`--frame`: names of frames, and bundles that hold several over one copy of the weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam_edge.cli.app import run
from sam_edge.devices.work import works_of
from sam_edge.export.frames import check_names, frame_sizes
from sam_edge.export.job import ExportJob
from sam_edge.export.pipeline import export_bundle
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.verification.verify import VerifyJob, verify
from sam_edge.weights.load import find_source, load_sam
from sam_edge_runtime import SamPredictor
from sam_edge_runtime.agreement.agreement import bounds_of
from sam_edge_runtime.agreement.golden import Golden
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.errors import BundleError, UsageError

SIDE = 256
WIDE, TALL = FrameSize(192, 256), FrameSize(256, 192)


@pytest.mark.parametrize(
    ("name", "side", "size"),
    [
        ("square", 512, (512, 512)),
        ("1:1", 512, (512, 512)),
        ("4:3", 1024, (768, 1024)),
        ("3:4", 1024, (1024, 768)),
        ("3:2", 1024, (704, 1024)),  # 682.7 pixels, rounded up
        ("3:2", 512, (352, 512)),
        ("16:9", 1024, (576, 1024)),
        ("16:9", 512, (288, 512)),
        ("1920:1080", 512, (288, 512)),
        ("1024x576", 1024, (576, 1024)),
        ("576x1024", 1024, (1024, 576)),
    ],
)
def test_a_name_is_a_size(name, side, size):
    check_names([name])
    assert frame_sizes([name], side) == (FrameSize(*size),)


def test_names_of_one_size_are_one_frame():
    assert frame_sizes(["4:3", "1024x768", "8:6", "square"], 1024) == (FrameSize(768, 1024), FrameSize.square(1024))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wide", "'wide' is no frame: use a shape such as 4:3"),
        ("", "'' is no frame"),
        ("4:", "no frame"),
        ("4:0", "no frame"),
        ("00x256", "no frame"),
        ("-4:3", "no frame"),
        ("1e9:1", "no frame"),
        ("256x190", "both sides must be multiples of 32: use 256x192"),
        ("512x384", "larger than the input size 256: use 256x192, or give --input-size 512"),
        ("192x160", "smaller than the input size 256: use 256x224, or give --input-size 192"),
        ("8:1", "too narrow: 256x32 pixels at input size 256"),
        ("256x64", "too narrow"),
    ],
)
def test_other_names_are_refused(capsys, tmp_path, name, says):
    arguments = ["--model", "nano", "--input-size", str(SIDE), "--out", str(tmp_path / "out")]
    assert run(["export", *arguments, f"--frame={name}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not (tmp_path / "out").exists()


def test_too_many_frames_and_an_official_layout_are_refused(tmp_path):
    with pytest.raises(UsageError, match="use at most 16"):
        check_names([f"{each}:3" for each in range(4, 21)])
    with pytest.raises(UsageError, match="omit --frame"):
        ExportJob("nano", tmp_path, layout="official", frames=("4:3",))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("frames") / "nano"
    return export_bundle(ExportJob("nano", out, input_side=SIDE, frames=("4:3", "3:4"))).bundle


@pytest.fixture(scope="module")
def torch_nano():
    return TorchBackend(load_sam("nano", find_source("nano", None), SIDE).sam)


def pictures() -> list[np.ndarray]:
    """A wide, a tall and a square photo with a disc."""
    made = []
    for height, width in ((90, 120), (120, 90), (100, 100)):
        y, x = np.mgrid[:height, :width]
        photo = np.stack([x * 2, y * 2, 200 - x], axis=-1).astype(np.uint8)
        photo[np.hypot(x - width / 2, y - height / 2) < 25] = (240, 230, 60)
        made.append(photo)
    return made


def test_files_share_their_weights(bundle):
    sizes = {name: record.bytes for name, record in bundle.manifest.files.items()}
    assert {"encoder.onnx", "encoder.onnx.data", "encoder_192x256.onnx", "decoder_192x256.onnx"} < set(sizes)
    assert sizes["encoder.onnx.data"] > 50 * sizes["encoder_192x256.onnx"]


def test_each_photo_is_answered_in_the_frame_that_it_fills_best_as_torch_answers(bundle, torch_nano):
    ours, theirs = SamPredictor(bundle), SamPredictor(bundle, backend=torch_nano)
    for photo, frame in zip(pictures(), (WIDE, TALL, WIDE), strict=True):
        for predictor in (ours, theirs):
            predictor.set_image(photo)
        assert ours.frame.size == frame
        height, width = photo.shape[:2]
        for prompt in ({"box": [20, 20, 80, 80]}, {"point_coords": [[width / 2, height / 2]], "point_labels": [1]}):
            (found, scores, low_res), (expected, wanted, _) = (each.predict(**prompt) for each in (ours, theirs))
            assert found.shape == (3, height, width)
            assert low_res.shape == (3, *frame.cells)
            assert (found != expected).mean() < 1e-3
            np.testing.assert_allclose(scores, wanted, atol=1e-4)
            again, _, _ = ours.predict(**prompt, mask_input=low_res[:1])
            assert again.shape == found.shape


def test_an_embedding_goes_back_into_its_frame(bundle):
    predictor, (wide, tall, _) = SamPredictor(bundle), pictures()
    predictor.set_image(tall)
    before, embedding = predictor.predict(box=[20, 20, 80, 80]), predictor.get_image_embedding()
    predictor.set_image(wide)
    with pytest.raises(UsageError, match=r"float32 of shape \(1, 256, 12, 16\)"):
        predictor.set_image_embedding(embedding, (90, 120))
    predictor.set_image_embedding(embedding, (120, 90))
    np.testing.assert_array_equal(predictor.predict(box=[20, 20, 80, 80])[0], before[0])


def test_automatic_masks_with_crops_use_every_frame(bundle, torch_nano):
    settings = {"points_per_side": 4, "crop_n_layers": 1, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    for photo in pictures()[:2]:
        records = AutomaticMaskGenerator(bundle, **settings).generate(photo)
        reference = AutomaticMaskGenerator(SamPredictor(bundle, backend=torch_nano), **settings).generate(photo)
        assert len(records) == len(reference) > 0
        assert records[0]["segmentation"].shape == photo.shape[:2]


def test_the_golden_test_covers_each_frame(bundle):
    test = Golden.load(bundle.golden_path, bundle.manifest)
    assert test.frames == (WIDE, WIDE, TALL, TALL)
    with pytest.raises(BundleError, match="lies in a frame of 256x192, which the bundle does not have"):
        Golden.load(bundle.golden_path, bundle.manifest.of_frame(TALL))
    assert test.of_frame(TALL).frames == (TALL, TALL)
    assert all(case.prompts.frame == TALL for case in test.of_frame(TALL).cases)


def test_verify_and_info_know_the_frames(bundle, tmp_path, capsys):
    result = verify(VerifyJob(bundle.root, out=tmp_path / "report"))
    assert not result.missed
    assert {photo.photo for photo in result.agreement.photos} == {
        f"golden picture {number} in {frame}" for number in (1, 2) for frame in ("256x192", "192x256")
    }
    assert json.loads((tmp_path / "report" / "report.json").read_text())["bundle"]["frames"] == [[192, 256], [256, 192]]
    assert run(["info", str(bundle.root)]) == 0
    assert "256x192, 192x256" in capsys.readouterr().out


def test_a_device_measures_one_frame(bundle):
    with pytest.raises(UsageError, match=r"holds 2 frames.*such as --frame 256x192"):
        works_of("nano", bundle)
    alone = Bundle(bundle.root, bundle.manifest.of_frame(WIDE))
    assert [work.files[0].name for work in works_of("nano", alone)] == ["encoder.onnx", "decoder.onnx"]


def test_a_photo_that_hardly_fills_its_frame_is_named(bundle, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 400, 3), np.uint8)).save(tmp_path / "narrow.png")
    arguments = [str(tmp_path / "narrow.png"), "--point", "200,30", "--out", str(tmp_path / "out")]
    assert run(["predict", str(bundle.root), *arguments]) == 0
    assert "fills 20% of the frame 256x192" in " ".join(capsys.readouterr().err.split())


def test_a_changed_file_of_any_frame_is_found(bundle, tmp_path):
    import shutil

    copy = shutil.copytree(bundle.root, tmp_path / "copy")
    with (copy / "decoder_192x256.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"decoder_192x256.onnx has \d+ bytes"):
        Bundle.open(copy)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite", "coreml"])
@pytest.mark.parametrize("precision", ["fp32", "w8a8"])
def test_every_target_holds_several_frames_over_one_copy_of_the_weights(tmp_path, target, precision):
    several, single = (
        export_bundle(
            ExportJob(
                "nano", tmp_path / name, target=target, precision=precision, input_side=SIDE, frames=frames, photos=2
            )
        )
        for name, frames in (("several", ("square", "4:3", "3:4")), ("single", ("square",)))
    )
    agreement, bounds = several.agreement, bounds_of(several.bundle.manifest)
    assert agreement.mask_miou >= bounds.mask_miou
    # In INT8, nano at so small a size and calibrated on two photos misses the bound of a single IoU prediction.
    assert precision != "fp32" or not several.missed
    graphs = [
        sum(record.bytes for name, record in each.bundle.manifest.files.items() if name.startswith(("enc", "dec")))
        for each in (several, single)
    ]
    # TFLite repeats each weight's scales in every signature: 1.55 in INT8, where the weights are a quarter.
    assert graphs[0] < (1.6 if (target, precision) == ("tflite", "w8a8") else 1.35) * graphs[1]
    photo = pictures()[1]
    predictor = SamPredictor(several.bundle)
    predictor.set_image(photo)
    assert predictor.frame.size == TALL
    assert predictor.predict(box=[20, 20, 70, 80])[0].shape == (3, 120, 90)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite", "coreml"])
def test_a_frame_is_quantized_without_a_square(tmp_path, target):
    job = ExportJob("nano", tmp_path, target=target, precision="w8a8", input_side=SIDE, frames=("4:3",), photos=2)
    exported = export_bundle(job)
    assert exported.bundle.manifest.frame == WIDE
    assert exported.agreement.mask_miou > 0.95
