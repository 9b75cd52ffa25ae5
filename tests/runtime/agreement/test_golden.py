"""The acceptance test of bundles: a correct engine passes, every planted fault fails, and broken files are refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import Agreement, bounds_for
from sam_edge_runtime.agreement.golden import Golden, check, record
from sam_edge_runtime.agreement.metrics import LARGEST_SNR
from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.backends import load_backend
from sam_edge_runtime.bundle.bundle import Bundle, record_files
from sam_edge_runtime.bundle.contract import FrameSize, Label
from sam_edge_runtime.bundle.conventions import SAM_2
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.errors import BackendError, BundleError, UsageError
from sam_edge_runtime.prompts import Prompts
from tests.runtime.standin import CELLS, CHANNELS, SIDE, NumpyBackend, manifest, write_onnx_bundle

FP32 = bounds_for("onnx", "fp32")
SLOTS = {
    "one point": 2,
    "three points": 4,
    "box": 2,
    "box and points": 5,
    "mask": 1,
    "mask and point": 2,
    "mask and box": 2,
}


class Model(NumpyBackend):
    """`NumpyBackend` with masks that have edges: from the embedding's texture instead of its mean, about 130."""

    def decode(self, features, point_coords, point_labels, mask_input, has_mask_input):
        masks, iou, _ = super().decode(features, point_coords, point_labels, mask_input, has_mask_input)
        (embeddings,) = features
        texture = np.kron(embeddings[0, 0] - embeddings[0, 0].mean(), np.ones((4, 4))) / 8
        masks = masks - embeddings.mean() + texture + iou[:, :, None, None] - 3
        return Decoded(masks.astype(np.float32), iou)


class Fixed(Model):
    """A model that takes one number of prompts and slots only."""

    def __init__(self, prompts: int, points: int) -> None:
        super().__init__()
        self.shape = (prompts, points)

    def decode(self, features, point_coords, point_labels, mask_input, has_mask_input):
        assert point_labels.shape == self.shape
        assert point_coords.shape == (*self.shape, 2)
        assert has_mask_input.shape == self.shape[:1]
        return super().decode(features, point_coords, point_labels, mask_input, has_mask_input)


@pytest.fixture(scope="module")
def recorded() -> Golden:
    return record(Model(), manifest())


@pytest.fixture(scope="module")
def stored(recorded, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("golden") / "golden.npz"
    recorded.save(path)
    return path.read_bytes()


def arrays_of(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as opened:
        return dict(opened)


def assert_perfect(agreement: Agreement) -> None:
    assert agreement.mask_miou == 1.0
    assert agreement.boundary_miou == 1.0
    assert agreement.iou_prediction_error == 0.0
    assert agreement.embedding_snr_db == LARGEST_SNR
    assert [photo.embedding_cosine for photo in agreement.photos] == pytest.approx([1.0, 1.0], abs=1e-12)
    assert agreement.missed(FP32) == ()


# Recording ----------------------------------------------------------------------------------------------------------


def test_it_has_prompts_of_every_kind_on_a_wide_and_a_tall_picture(recorded):
    assert [(case.picture, case.name) for case in recorded.cases] == [(p, name) for p in (0, 1) for name in SLOTS]
    assert [case.prompts.coords.shape[1] for case in recorded.cases] == list(SLOTS.values()) * 2
    (h0, w0, _), (h1, w1, _) = (picture.shape for picture in recorded.pictures)
    assert w0 > h0
    assert h1 > w1
    labels = {label for case in recorded.cases for label in case.prompts.labels.ravel().tolist()}
    assert labels == {float(label) for label in Label}
    sizes = [(192, 256), (256, 165)]  # (h, w) inside the frame
    for case in recorded.cases:
        h, w = sizes[case.picture]
        assert (case.prompts.coords >= 0).all()
        assert (case.prompts.coords <= [w, h]).all()
        assert (case.prompts.masks is not None) == case.name.startswith("mask")


def test_pictures_and_outputs_can_reveal_faults(recorded):
    for picture in recorded.pictures:
        assert picture.dtype == np.uint8
        assert picture.std() > 20
    assert not np.array_equal(recorded.cases[0].expected.iou, recorded.cases[7].expected.iou)
    mask_prompt = next(case.prompts.masks for case in recorded.cases if case.name == "mask")
    assert mask_prompt.shape == (1, 1, CELLS, CELLS)
    assert 0.1 < (mask_prompt > 0).mean() < 0.9
    np.testing.assert_array_equal(mask_prompt * 8, np.round(mask_prompt * 8))  # stored as int8 without loss
    # The model must return masks with edges, or the faults below would go undetected.
    assert np.mean([0.02 < case.expected.inside.mean() < 0.98 for case in recorded.cases]) > 0.7


def test_expected_outputs_are_those_of_the_reference(recorded):
    backend = Model()
    for case in recorded.cases:
        picture = recorded.pictures[case.picture]
        (embeddings,) = backend.encode(golden.Frame(FrameSize.square(SIDE), picture.shape[:2]).image(picture))
        np.testing.assert_array_equal(*recorded.features[case.picture], embeddings[:, :, ::4, ::4])
        mask = case.prompts.masks
        low_res, iou, _ = backend.decode(
            (embeddings,),
            case.prompts.coords,
            case.prompts.labels,
            np.zeros((1, 1, CELLS, CELLS), np.float32) if mask is None else mask,
            np.full(1, mask is not None, np.float32),
        )
        np.testing.assert_array_equal(case.expected.inside, low_res[0] > 0)
        np.testing.assert_array_equal(case.expected.logits, low_res[0, :, ::4, ::4])
        np.testing.assert_array_equal(case.expected.iou, iou[0])


def test_the_same_model_gives_the_same_arrays(stored, tmp_path):
    record(Model(), manifest()).save(tmp_path / "again.npz")
    first, second = arrays_of(stored), arrays_of((tmp_path / "again.npz").read_bytes())
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        np.testing.assert_array_equal(array, second[name], err_msg=name)


def test_the_file_is_small_and_contains_plain_arrays(stored):
    arrays = arrays_of(stored)
    assert not [name for name, array in arrays.items() if array.dtype.hasobject]
    assert {array.dtype.kind for array in arrays.values()} <= set("Uuif")
    assert arrays["case_4_mask_input"].dtype == np.int8
    assert arrays["picture_0_embedding"].shape == (1, CHANNELS, 4, 4)
    assert len(stored) < 400_000


# Round trip and capacities ------------------------------------------------------------------------------------------


def test_a_correct_engine_agrees_bit_for_bit(stored, recorded, tmp_path):
    (tmp_path / "golden.npz").write_bytes(stored)
    loaded = Golden.load(tmp_path / "golden.npz", manifest())
    assert_perfect(check(recorded, Model(), manifest()))
    assert_perfect(check(loaded, Model(), manifest()))
    for before, after in zip(recorded.cases, loaded.cases, strict=True):
        assert (before.name, before.picture, before.prompts.frame) == (after.name, after.picture, after.prompts.frame)
        for name in ("coords", "labels", "masks"):
            old, new = getattr(before.prompts, name), getattr(after.prompts, name)
            assert (old is None) == (new is None)
            if old is not None:
                assert old.dtype == new.dtype == np.float32
                np.testing.assert_array_equal(old, new)
        np.testing.assert_array_equal(before.expected.logits, after.expected.logits)


@pytest.mark.parametrize(("prompts", "points"), [(1, 5), (3, 8), (1, 2), (2, 1)])
def test_a_decoder_of_fixed_shape_gets_the_prompts_that_fit(tmp_path, prompts, points):
    made_for = manifest(prompts, points)
    record(Model(), made_for).save(tmp_path / "golden.npz")
    loaded = Golden.load(tmp_path / "golden.npz", made_for)
    expected = [name for name, slots in SLOTS.items() if slots <= points]
    assert [case.name for case in loaded.cases] == expected * 2
    assert len(expected) == {5: 7, 8: 7, 2: 5, 1: 1}[points]
    assert_perfect(check(loaded, Fixed(prompts, points), made_for))


def test_an_onnx_bundle_checks_itself(tmp_path):
    bundle = write_onnx_bundle(tmp_path / "bundle", prompts=2, points=4)
    record(NumpyBackend(), bundle.manifest).save(tmp_path / "bundle" / "golden.npz")
    content = manifest(2, 4, files=record_files(tmp_path / "bundle"))
    (tmp_path / "bundle" / "manifest.json").write_text(content.to_json())
    bundle = Bundle.open(tmp_path / "bundle")
    agreement = check(Golden.load(bundle.golden_path, bundle.manifest), load_backend(bundle), bundle.manifest)
    assert len(agreement.prompts) == 2 * 6  # all but "box and points", which needs five slots
    assert agreement.missed(FP32) == ()
    assert agreement.mask_miou == 1.0
    assert agreement.iou_prediction_error < 1e-5
    assert agreement.embedding_snr_db > 100


def test_a_logit_of_zero_is_outside():
    class Undecided(Model):
        def decode(self, *inputs):
            masks, iou, _ = super().decode(*inputs)
            return Decoded(masks * 0, iou)

    drawn = record(Undecided(), manifest())
    assert not any(case.expected.inside.any() for case in drawn.cases)
    assert_perfect(check(drawn, Undecided(), manifest()))


@pytest.mark.parametrize(("prompts", "points"), [(None, None), (2, 3), (5, 2), (8, 4), (1, 2)])
def test_a_batch_in_several_calls_is_decoded_in_order(prompts, points):
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, SIDE, (5, 2, 2)).astype(np.float32)
    labels = rng.integers(0, 2, (5, 2)).astype(np.float32)
    masks = rng.normal(size=(5, 1, CELLS, CELLS)).astype(np.float32)
    embeddings = rng.normal(size=(1, CHANNELS, 16, 16)).astype(np.float32)
    backend = Model() if prompts is None else Fixed(prompts, points)
    low_res, iou, _ = decode_prompts(
        backend, manifest(prompts, points), (embeddings,), Prompts(coords, labels, masks, FrameSize.square(SIDE))
    )
    assert (low_res.shape, iou.shape) == ((5, 4, CELLS, CELLS), (5, 4))
    assert len(backend.calls) == (1 if prompts is None else -(-5 // prompts))
    for index in range(5):
        alone = slice(index, index + 1)
        expected = Model().decode((embeddings,), coords[alone], labels[alone], masks[alone], np.ones(1, np.float32))
        np.testing.assert_allclose(low_res[alone], expected[0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(iou[alone], expected[1], rtol=0, atol=1e-6)


# Further features ---------------------------------------------------------------------------------------------------


class WithFeatures(Model):
    """A model with SAM 2's tensors: features that the masks depend on, and an object score of each prompt."""

    def encode(self, image):
        (embeddings,) = super().encode(image)
        rng = np.random.default_rng(0)
        shapes = ((1, 32, CELLS, CELLS), (1, 64, CELLS // 2, CELLS // 2))
        return embeddings, *(rng.normal(embeddings.mean() / 100, 1, shape).astype(np.float32) for shape in shapes)

    def decode(self, features, *prompts):
        embeddings, fine, _ = features
        masks, iou, _ = super().decode((embeddings,), *prompts)
        return Decoded(masks + fine[:, :1], iou, iou[:, :1] * 4 - 2)


def test_features_and_object_scores_are_kept_and_compared(tmp_path):
    about = manifest(conventions=SAM_2)
    drawn = record(WithFeatures(), about)
    drawn.save(tmp_path / "golden.npz")
    read = Golden.load(tmp_path / "golden.npz", about)
    for ours, theirs in zip(read.features, drawn.features, strict=True):
        assert [each.shape for each in ours] == [(1, 3, 4, 4), (1, 32, 16, 16), (1, 64, 8, 8)]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    assert all(case.expected.object_score.shape == (1,) for case in read.cases)
    assert_perfect(check(read, WithFeatures(), about))
    record(Model(), manifest()).save(tmp_path / "without.npz")
    with pytest.raises(BundleError, match="picture_0_feature_0"):
        Golden.load(tmp_path / "without.npz", about)


def test_faults_of_features_and_object_scores_miss_their_bounds():
    class OtherFeature(WithFeatures):
        def encode(self, image):
            *kept, last = super().encode(image)
            return *kept, last * 1.01

    class OtherScore(WithFeatures):
        def decode(self, features, *prompts):
            masks, iou, score = super().decode(features, *prompts)
            return Decoded(masks, iou, score + 1)

    about = manifest(conventions=SAM_2)
    drawn = record(WithFeatures(), about)
    assert [line.split(" is ")[0] for line in check(drawn, OtherFeature(), about).missed(FP32)] == [
        "embedding SNR, worst photo"
    ]
    assert any("IoU prediction" in line for line in check(drawn, OtherScore(), about).missed(FP32))


def test_a_decoder_without_the_manifest_s_object_score_is_refused():
    with pytest.raises(BackendError, match="differ in whether there is an object score"):
        record(Model(), manifest(conventions=replace(SAM_2, features=(), stretched=False)))


# Planted faults -----------------------------------------------------------------------------------------------------


def _decoding(change: Callable) -> type[Model]:
    """A model whose decoder inputs are changed."""

    class Faulty(Model):
        def decode(self, *inputs):
            (embeddings,), *prompts = inputs
            changed, *prompts = change(embeddings, *prompts)
            return super().decode((changed,), *prompts)

    return Faulty


def _outputting(change: Callable) -> type[Model]:
    """A model whose decoder outputs are changed."""

    class Faulty(Model):
        def decode(self, *inputs):
            masks, iou, _ = super().decode(*inputs)
            return Decoded(*change(masks, iou))

    return Faulty


def _encoding(change: Callable) -> type[Model]:
    """A model whose embedding is changed by a function of embedding and image."""

    class Faulty(Model):
        def encode(self, image):
            (embeddings,) = super().encode(image)
            return (np.asarray(change(embeddings, image), np.float32),)

    return Faulty


def _exchanged(array: np.ndarray) -> np.ndarray:
    return array[:, [0, 2, 1, 3]]


MASKS, IOU, SNR, LOGITS = "mask mIoU", "IoU prediction", "embedding SNR", "mask logit SNR"
FAULTS = {
    "x and y of points": (_decoding(lambda e, c, n, m, h: (e, c[..., ::-1], n, m, h)), {IOU, MASKS}),
    "half a pixel": (_decoding(lambda e, c, n, m, h: (e, c + 0.5, n, m, h)), {IOU}),
    "labels of fore- and background": (
        _decoding(lambda e, c, n, m, h: (e, c, np.where(n == 1, 0, n), m, h)),
        {IOU, MASKS},
    ),
    "mask input dropped": (_decoding(lambda e, c, n, m, h: (e, c, n, m, h * 0)), {MASKS}),
    "mask input transposed": (_decoding(lambda e, c, n, m, h: (e, c, n, m.swapaxes(2, 3), h)), {MASKS}),
    "mask input always on and inverted": (_decoding(lambda e, c, n, m, h: (e, c, n, -m, h)), {MASKS}),
    "two outputs exchanged": (_outputting(lambda m, i: (_exchanged(m), _exchanged(i))), {IOU, MASKS}),
    "two masks exchanged": (_outputting(lambda m, i: (_exchanged(m), i)), {MASKS}),
    "two predictions exchanged": (_outputting(lambda m, i: (m, _exchanged(i))), {IOU}),
    "masks mirrored": (_outputting(lambda m, i: (m[..., ::-1], i)), {MASKS}),
    "masks inverted": (_outputting(lambda m, i: (-m, i)), {MASKS}),
    "masks of NaN": (_outputting(lambda m, i: (m * np.nan, i)), {MASKS, LOGITS}),
    "logits halved": (_outputting(lambda m, i: (m / 2, i)), {LOGITS}),
    "predictions of NaN": (_outputting(lambda m, i: (m, i * np.nan)), {IOU}),
    "prediction off by 2e-3": (_outputting(lambda m, i: (m, i + np.float32(2e-3))), {IOU}),
    "embedding scaled by 1 %": (_encoding(lambda e, _: e * 1.01), {SNR}),
    "embedding transposed": (_encoding(lambda e, _: e.swapaxes(2, 3)), {SNR, MASKS}),
    "embedding's channels reversed": (_encoding(lambda e, _: e[:, ::-1]), {SNR, MASKS}),
    "embedding of NaN": (_encoding(lambda e, _: e * np.nan), {SNR, MASKS}),
    "embedding of zeros": (_encoding(lambda e, _: e * 0), {SNR, MASKS}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_misses_its_bounds(recorded, fault):
    backend, words = FAULTS[fault]
    missed = check(recorded, backend(), manifest()).missed(FP32)
    assert len(missed) >= 1
    for word in words:
        assert any(word in line for line in missed), missed
    assert not any("\n" in line for line in missed)


def test_the_worst_prompt_is_named(recorded):
    class InvertedForBoxes(Model):
        def decode(self, features, point_coords, point_labels, mask_input, has_mask_input):
            masks, iou, _ = super().decode(features, point_coords, point_labels, mask_input, has_mask_input)
            inverted = point_labels[0].tolist() == [2, 3] and not has_mask_input[0]
            return Decoded(-masks if inverted else masks, iou)

    agreement = check(recorded, InvertedForBoxes(), manifest())
    assert agreement.worst[1].prompt == "box"
    assert any("worst: box on golden picture" in line for line in agreement.missed(FP32))


def test_a_golden_test_without_prompts_is_refused(recorded):
    with pytest.raises(UsageError, match="nothing to compare"):
        check(replace(recorded, cases=()), Model(), manifest())


# Files that are no golden test --------------------------------------------------------------------------------------


def _repacked(**changes) -> Callable[[bytes], bytes]:
    """The file with arrays replaced, removed (None), or computed from the old one (a function)."""

    def change(content: bytes) -> bytes:
        arrays = arrays_of(content)
        for name, new in changes.items():
            old = arrays.pop(name, None)
            if new is not None:
                arrays[name] = new(old) if callable(new) else new
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        return packed.getvalue()

    return change


def _flipped(fraction: float) -> Callable[[bytes], bytes]:
    """The file with one byte flipped, at a fraction of an array's compressed data."""

    def change(content: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entry = archive.getinfo("picture_0.npy")
        start = entry.header_offset
        names = sum(int.from_bytes(content[start + at : start + at + 2], "little") for at in (26, 28))
        at = start + 30 + names + int(fraction * entry.compress_size)
        return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]

    return change


def _pickle(_: bytes) -> bytes:
    import pickle

    return pickle.dumps({"names": ["box"]})


def _npy(_: bytes) -> bytes:
    plain = io.BytesIO()
    np.save(plain, np.zeros(3))
    return plain.getvalue()


def _header_of_petabytes(content: bytes) -> bytes:
    """A few bytes that claim an array larger than any memory."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"
    header += b" " * (117 - len(header)) + b"\n"
    entry = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            new.writestr(name, entry if name == "case_0_logits.npy" else old.read(name))
    return packed.getvalue()


def _encrypted(content: bytes) -> bytes:
    """Every entry is marked as encrypted."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            changed[at + offset] |= 1
            at = content.find(signature, at + 4)
    return bytes(changed)


OBJECTS = np.array([{"x": 1}, None], dtype=object)
BROKEN = {
    "empty": lambda content: b"",
    "text": lambda content: b"golden",
    "half": lambda content: content[: len(content) // 2],
    "last byte": lambda content: content[:-1],
    "flipped first byte": _flipped(0.0),
    "flipped byte": _flipped(0.5),
    "pickle": _pickle,
    "a single array": _npy,
    "claims petabytes": _header_of_petabytes,
    "encrypted": _encrypted,
    "objects as names": _repacked(names=OBJECTS),
    "objects as logits": _repacked(case_0_logits=OBJECTS),
    "no names": _repacked(names=None),
    "names are numbers": _repacked(names=np.arange(14)),
    "one name": _repacked(names=np.array("box")),
    "more names than cases": _repacked(names=lambda old: np.append(old, "more")),
    "no coordinates": _repacked(case_3_point_coords=None),
    "coordinates of three axes": _repacked(case_0_point_coords=np.zeros((2, 3), np.float32)),
    "coordinates as texts": _repacked(case_0_point_coords=np.array([["1", "2"], ["3", "4"]])),
    "labels for other points": _repacked(case_0_point_labels=np.zeros(3, np.float32)),
    "mask of another side": _repacked(case_4_mask_input=np.zeros((1, 32, 32), np.int8)),
    "mask as floats": _repacked(case_4_mask_input=np.zeros((1, CELLS, CELLS), np.float32)),
    "too few bits inside": _repacked(case_0_inside=np.zeros(7, np.uint8)),
    "too many bits inside": _repacked(case_0_inside=lambda old: np.append(old, old)),
    "three outputs": _repacked(case_0_iou_predictions=np.zeros(3, np.float32)),
    "logits of another side": _repacked(case_0_logits=np.zeros((4, 3, 3), np.float32)),
    "two pictures for one case": _repacked(case_0_picture=np.array([0, 1])),
    "a picture that is not there": _repacked(case_0_picture=np.int64(2)),
    "a picture before the first": _repacked(case_0_picture=np.int64(-1)),
    "no first picture": _repacked(picture_0=None),
    "no embedding": _repacked(picture_1_embedding=None),
    "grey picture": _repacked(picture_0=np.zeros((192, 256), np.uint8)),
    "picture of floats": _repacked(picture_0=np.zeros((192, 256, 3))),
    "picture of no pixels": _repacked(picture_0=np.zeros((0, 256, 3), np.uint8)),
    "embedding of other channels": _repacked(picture_0_embedding=np.zeros((1, CHANNELS + 1, 4, 4), np.float32)),
    "embedding of another side": _repacked(picture_0_embedding=np.zeros((1, CHANNELS, 3, 4), np.float32)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_in_one_line(stored, tmp_path, kind):
    path = tmp_path / "golden.npz"
    path.write_bytes(BROKEN[kind](stored))
    with pytest.raises(BundleError) as caught:
        Golden.load(path, manifest())
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path} is no golden test (")
    assert line.endswith("export the bundle again")


def test_a_pickle_inside_is_not_executed(stored, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "golden.npz"
    path.write_bytes(_repacked(case_0_logits=np.array([Trap()], dtype=object))(stored))
    with pytest.raises(BundleError, match="it holds object"):
        Golden.load(path, manifest())
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BundleError, match="No such file"):
        Golden.load(tmp_path / "golden.npz", manifest())


def test_a_golden_test_of_another_input_side_is_refused(stored, tmp_path):
    (tmp_path / "golden.npz").write_bytes(stored)
    with pytest.raises(BundleError, match="is no golden test"):
        Golden.load(tmp_path / "golden.npz", manifest(input_side=512))


def test_a_file_repacked_without_changes_is_read(stored, tmp_path):
    """Shows that the files above are refused for their changes."""
    (tmp_path / "golden.npz").write_bytes(_repacked()(stored))
    assert_perfect(check(Golden.load(tmp_path / "golden.npz", manifest()), Model(), manifest()))
