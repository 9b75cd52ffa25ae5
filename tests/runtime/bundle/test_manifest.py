"""The manifest: round trips, and an error that names the field for every kind of invalid value."""

from __future__ import annotations

import hashlib
import json

import pytest

from sam_edge_runtime.bundle.contract import FrameSize, Layout
from sam_edge_runtime.bundle.conventions import EFFICIENT_SAM, EFFICIENTVIT_SAM, SAM_2, SAM_HQ
from sam_edge_runtime.bundle.manifest import RANDOM_WEIGHTS_NOTE, Checkpoint, FileRecord, Manifest
from sam_edge_runtime.errors import BundleError
from tests.runtime.standin import manifest

MISSING = object()


def complete(**changes) -> Manifest:
    """A manifest with every optional field filled."""
    fields = {
        "prompts": 2,
        "points": 8,
        "checkpoint": Checkpoint("sam.pth", "ab" * 32, False),
        "recipe": {"name": "fp32", "nested": {"list": [1, 2.5, None, "ü"]}},
        "files": {
            "encoder.onnx": FileRecord("cd" * 32, 123),
            "decoder.onnx": FileRecord("ef" * 32, 45),
            "weights/empty.bin": FileRecord(hashlib.sha256().hexdigest(), 0),
        },
        "tools": {"onnx": "1.19.0", "torch": "2.13.0"},
    }
    return manifest(**{**fields, **changes})


def document(**changes) -> dict:
    return json.loads(complete(**changes).to_json())


def sealed(content: dict) -> str:
    """The text of a document with its digest, computed as in a port to another language."""
    body = {key: value for key, value in content.items() if key != "digest"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return json.dumps({**body, "digest": hashlib.sha256(canonical.encode("ascii")).hexdigest()})


def changed(path: str, value: object, content: dict | None = None) -> dict:
    """A document with the field at `path` set, or removed for `MISSING`."""
    content = content or document()
    *parents, last = path.split("/")
    parent = content
    for key in parents:
        parent = parent[int(key) if isinstance(parent, list) else key]
    last = int(last) if isinstance(parent, list) else last
    if value is MISSING:
        del parent[last]
    else:
        parent[last] = value
    return content


def refused(text: str) -> str:
    """The message that refuses `text`; it is one line."""
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(text)
    line = str(caught.value)
    assert "\n" not in line
    assert line.isprintable()
    assert line.startswith("manifest.json")
    assert len(line) < 500
    return line


# Round trips --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"checkpoint": Checkpoint("random:7", None, True)},
        {"prompts": None, "points": None},
        {"prompts": 1, "points": None},
        {"input_side": 1024, "embedding_channels": 256, "parameters": 93_735_472},
        {"prompts": 8, "batches": (1, 2, 8)},
        {"tools": {}, "recipe": {}},
        {"licence": "Lizenz für Ümläute \u2028 日本"},
        {"frames": (FrameSize(192, 256),)},
        {"frames": (FrameSize(192, 256), FrameSize.square(256), FrameSize(256, 160)), "prompts": 8, "batches": (1, 8)},
    ],
)
def test_a_written_manifest_is_read_back(changes):
    original = complete(**changes)
    assert Manifest.from_json(original.to_json()) == original
    assert Manifest.from_json(original.to_json()).to_json() == original.to_json()
    assert json.loads(sealed(json.loads(original.to_json()))) == json.loads(original.to_json())


def test_batches_are_written_only_where_there_are_several():
    assert document()["capacity"] == {"prompts": 2, "points": 8}
    assert document(batches=(1, 2))["capacity"] == {"prompts": 2, "points": 8, "batches": [1, 2]}


WIDE, TALL = FrameSize(192, 256), FrameSize(256, 192)


def test_a_manifest_of_squares_alone_names_no_frame_and_is_read_by_older_releases():
    assert complete().frames == (FrameSize.square(256),)
    assert "frames" not in document()
    assert document()["format_version"] == 1
    assert document(frames=(WIDE,))["format_version"] == 2


def test_each_frame_has_files_and_contracts_of_its_own():
    several = complete(frames=(WIDE, TALL))
    assert [(each.frame, each.encoder, each.decoder) for each in several.each_frame()] == [
        (WIDE, "encoder.onnx", "decoder.onnx"),
        (TALL, "encoder_192x256.onnx", "decoder_192x256.onnx"),
    ]
    written = document(frames=(WIDE, TALL))
    assert [(each["height"], each["width"], each["encoder"]["file"]) for each in written["frames"]] == [
        (192, 256, "encoder.onnx"),
        (256, 192, "encoder_192x256.onnx"),
    ]
    shapes = [[tensor["shape"] for tensor in each["decoder"]["outputs"]] for each in written["frames"]]
    assert shapes == [[[2, 4, 48, 64], [2, 4]], [[2, 4, 64, 48], [2, 4]]]
    assert written["encoder"] == written["frames"][0]["encoder"]


def test_frames_in_one_file_have_signatures():
    several = complete(target="tflite", frames=(WIDE, TALL), prompts=8, batches=(1, 8))
    assert [each.encoder for each in several.each_frame()] == ["encoder.onnx"] * 2
    assert {name: contract.inputs[0].shape for name, contract in several.encoder_signatures.items()} == {
        "frame_256x192": (1, 3, 192, 256),
        "frame_192x256": (1, 3, 256, 192),
    }
    assert list(several.decoder_signatures) == [
        "frame_256x192_prompts_1",
        "frame_256x192_prompts_8",
        "frame_192x256_prompts_1",
        "frame_192x256_prompts_8",
    ]
    assert list(complete(target="tflite", frames=(WIDE, TALL)).decoder_signatures) == ["frame_256x192", "frame_192x256"]


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([{"height": 100, "width": 256}], "frame 256x100 is impossible for input_side 256"),
        ([{"height": 128, "width": 192}], "frame 192x128 is impossible for input_side 256"),
        ([{"height": 192, "width": 512}], "frame 512x192 is impossible"),
        ([{"height": 192, "width": 256}] * 2, "a frame is named twice"),
        ([{"height": 192, "width": "256"}], "frames.0.width is '256', an integer is expected"),
        ([7], "frames is [7], a list of up to 16 objects is expected"),
        ({"height": 192}, "a list of up to 16 objects is expected"),
        ([{"height": 192, "width": 256}] * 17, "a list of up to 16 objects is expected"),
    ],
)
def test_impossible_frames_are_refused(frames, says):
    assert says in refused(sealed(changed("frames", frames)))


def test_a_frame_with_another_ones_file_or_tensors_is_refused():
    for name, value in (("file", "../x.onnx"), ("outputs", []), ("file", None)):
        edited = document(frames=(WIDE, TALL))
        edited["frames"][1]["decoder"][name] = value
        assert "frames.1.decoder" in refused(sealed(edited))
    edited = document(frames=(WIDE, TALL))
    del edited["frames"][1]["encoder"]
    assert "frames.1.encoder" in refused(sealed(edited))


def test_each_of_several_call_sizes_has_a_signature():
    several = complete(prompts=8, batches=(1, 8))
    assert [each.prompts for each in several.each_capacity()] == [1, 8]
    assert several.call_sizes == (1, 8)
    shapes = {name: contract.inputs[1].shape for name, contract in several.decoder_signatures.items()}
    assert shapes == {"prompts_1": (1, 8, 2), "prompts_8": (8, 8, 2)}
    assert several.of_any_capacity().call_sizes == ()
    assert (complete().call_sizes, complete().each_capacity(), complete().decoder_signatures) == (
        (2,),
        (complete(),),
        {},
    )


def test_the_text_contains_the_whole_contract():
    content = document()
    assert (content["format"], content["format_version"]) == ("sam-edge-bundle", 1)
    assert content["encoder"]["inputs"][0] == {
        "name": "image",
        "shape": [1, 3, 256, 256],
        "dtype": "float32",
        "meaning": content["encoder"]["inputs"][0]["meaning"],
        "value_range": [0.0, 255.0],
    }
    assert [tensor["shape"] for tensor in content["decoder"]["inputs"]] == [
        [1, 3, 16, 16],
        [2, 8, 2],
        [2, 8],
        [2, 1, 64, 64],
        [2],
    ]
    assert content["preprocessing"]["normalization"]["mean"] == [123.675, 116.28, 103.53]
    assert "note" not in content
    variable = document(prompts=None, points=None)
    assert variable["decoder"]["inputs"][1]["shape"] == ["B", "N", 2]


def test_random_weights_are_noted():
    content = document(checkpoint=Checkpoint("random:0", None, True))
    assert content["note"] == RANDOM_WEIGHTS_NOTE
    assert "random weights" in content["note"]


# Fields that are missing or of the wrong type -----------------------------------------------------------------------

BAD = {
    "string": [MISSING, None, 5, True, [], {}],
    "integer": [MISSING, None, "7", 7.0, True, [], -1, 0],
    "size": [MISSING, None, "7", 7.0, True, -1],
    "flag": [MISSING, None, 0, 1, "true"],
    "object": [MISSING, None, [], "x", 3],
    "optional string": [5, False, []],
    "optional integer": ["7", 7.0, True, -1, 0],
    # The largest capacity of `complete` is 2.
    "ascending": [5, "1,2", {}, [], [2], [1], [1, 3], [2, 1], [2, 2], [1, 1, 2], [0, 2], [-1, 2], [1.0, 2], [True, 2]],
}
FIELDS = {
    "model": "object",
    "model/variant": "string",
    "model/parameters": "integer",
    "model/licence": "string",
    "model/checkpoint": "object",
    "model/checkpoint/source": "string",
    "model/checkpoint/sha256": "optional string",
    "model/checkpoint/random": "flag",
    "target": "string",
    "precision": "string",
    "recipe": "object",
    "input_side": "integer",
    "embedding_channels": "integer",
    "capacity": "object",
    "capacity/prompts": "optional integer",
    "capacity/points": "optional integer",
    "capacity/batches": "ascending",
    "encoder": "object",
    "encoder/file": "string",
    "decoder": "object",
    "decoder/file": "string",
    "files": "object",
    "files/encoder.onnx": "object",
    "files/encoder.onnx/sha256": "string",
    "files/encoder.onnx/bytes": "size",
    "tools": "object",
    "tools/onnx": "string",
}
FREE_NAMES = {"files/encoder.onnx", "tools/onnx"}  # the manifest is valid without them


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (path, value)
        for path, kind in FIELDS.items()
        for value in BAD[kind]
        if not (value is MISSING and path in FREE_NAMES)
    ],
    ids=lambda part: "missing" if part is MISSING else str(part),
)
def test_a_field_that_is_missing_or_of_the_wrong_type_is_named(path, value):
    line = refused(sealed(changed(path, value)))
    shown = None if value is MISSING else value
    assert f": {path.replace('/', '.')} is {shown!r}, " in line
    assert "expected: export the bundle again" in line


def test_an_unknown_target_is_refused_with_the_choices():
    line = refused(sealed(changed("target", "abacus")))
    assert line == (
        "manifest.json: no target called 'abacus': choose one of onnx, coreml, tflite: export the bundle again"
    )


def test_a_long_value_is_truncated_in_the_message():
    assert refused(sealed(changed("target", ["x" * 10_000])))


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\u2028b", "\ud800"])
def test_a_name_cannot_break_the_message_into_lines(name):
    for place in ("files", "tools"):
        assert refused(sealed(changed(f"{place}/{name}", 5))).startswith(f"manifest.json: {place}.")


@pytest.mark.parametrize("side", [64, 192, 257, 300, 1088, 10**30])
def test_an_input_side_that_no_model_supports_is_refused(side):
    line = refused(sealed(changed("input_side", side)))
    assert f"input_side {side} is not a multiple of 64 from 256 to 1024" in line


# Conventions of other families --------------------------------------------------------------------------------------


@pytest.mark.parametrize("conventions", [SAM_HQ, SAM_2])
def test_conventions_are_kept_and_the_contract_has_their_tensors(conventions):
    text = complete(conventions=conventions).to_json()
    read = Manifest.from_json(text)
    assert read == complete(conventions=conventions)
    content = json.loads(text)
    assert content["format_version"] == 3
    names = [each.name for each in conventions.features]
    assert [each["name"] for each in content["encoder"]["outputs"]] == ["image_embeddings", *names]
    assert [each["name"] for each in content["decoder"]["inputs"]][5:] == names


def test_conventions_of_the_last_format_are_named_only_where_they_differ():
    points = EFFICIENT_SAM.slots
    text = complete(conventions=EFFICIENT_SAM, points=points).to_json()
    assert Manifest.from_json(text) == complete(conventions=EFFICIENT_SAM, points=points)
    content = json.loads(text)
    assert content["format_version"] == 4
    assert (content["conventions"]["mask_prompts"], content["conventions"]["slots"]) == (False, 6)
    assert [each["name"] for each in content["decoder"]["inputs"]] == [
        "image_embeddings",
        "point_coords",
        "point_labels",
    ]
    assert content["preprocessing"]["filter"].startswith("bilinear without antialiasing")
    assert content["postprocessing"]["resize"].startswith("bicubic")
    assert "slots" not in json.loads(complete(conventions=SAM_2).to_json())["conventions"]


def test_an_image_of_half_the_frame_is_kept():
    text = complete(conventions=EFFICIENTVIT_SAM, layout=Layout.NCHW).to_json()
    read = Manifest.from_json(text)
    assert read.conventions == EFFICIENTVIT_SAM
    assert read.encoder_contract.inputs[0].shape == (1, 3, *(side // 2 for side in read.frame))
    assert read.encoder_contract.outputs[0].shape[2:] == read.frame.grid
    assert json.loads(text)["preprocessing"]["image_stride"].startswith("2: ")
    assert EFFICIENTVIT_SAM.described == ("photos are resized to half of the frame",)


def test_a_decoder_has_the_slots_of_its_conventions():
    text = complete(conventions=EFFICIENT_SAM, points=8).to_json()
    assert "8 points are not the 6 slots of the conventions" in refused(text)


def test_features_have_the_shapes_of_their_strides():
    contract = complete(conventions=SAM_2, layout=Layout.NHWC).encoder_contract
    assert [spec.shape for spec in contract.outputs[1:]] == [(1, 64, 64, 32), (1, 32, 32, 64)]
    decoder = complete(conventions=SAM_2).decoder_contract
    assert [spec.shape for spec in decoder.inputs[5:]] == [(1, 32, 64, 64), (1, 64, 32, 32)]
    assert (decoder.outputs[2].name, decoder.outputs[2].shape) == ("object_score_logits", (2, 1))
    assert decoder.outputs[1].value_range == (0.0, 1.0)


def test_a_stretched_photo_has_no_other_frame_than_the_square():
    frames = (FrameSize(192, 256),)
    assert "photos are stretched" in refused(complete(conventions=SAM_2, frames=frames).to_json())


def test_conventions_are_described_by_what_differs():
    assert complete().conventions.described == ()
    assert SAM_HQ.described == ("the decoder also takes hq_features", "of three masks the best is returned")
    assert SAM_2.described[0] == "photos are stretched to the frame"


def test_bundles_with_sam_1_s_conventions_do_not_name_them():
    assert "conventions" not in document()
    assert document()["format_version"] == 1


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("conventions", [], "conventions is [], an object"),
        ("conventions/stretched", 1, "conventions.stretched is 1, true or false"),
        ("conventions/best_only", MISSING, "conventions.best_only is None, true or false"),
        ("conventions/logit_limit", 0, "conventions.logit_limit is 0, a finite number above 0"),
        ("conventions/logit_limit", True, "conventions.logit_limit is True"),
        ("conventions/features", "none", "conventions.features is 'none', a list"),
        ("conventions/features/0/name", "../x", "conventions.features.0.name is '../x', letters, digits"),
        ("conventions/features/0/channels", 10**9, "conventions.features.0.channels is 1000000000, at most 4096"),
        ("conventions/features/0/stride", 3, "conventions.features.0.stride is 3, one of 1, 2, 4"),
        ("conventions/features/0/name", "image", "names that no other tensor has are expected"),
        ("conventions/features/0/name", "high_res_features_1", "names that no other tensor has are expected"),
        ("conventions/logit_limit", 10**400, "conventions.logit_limit is"),
        ("interface", "official", "interface official is not for these conventions"),
        ("conventions/features/0/channels", 16, "encoder.outputs breaks the contract"),
        ("conventions/object_score", False, "decoder.outputs breaks the contract"),
    ],
)
def test_invalid_conventions_are_refused(field, value, reason):
    assert reason in refused(sealed(changed(field, value, document(conventions=SAM_2))))


# Texts that are no manifest -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("\x00" * 50, "is not JSON"),
        ("\ufeff{}", "is not JSON"),
        (complete().to_json()[:-20], "is not JSON"),
        (complete().to_json() * 2, "is not JSON"),
        ('{"format": ' + "1" * 5000 + "}", "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[]", "no sam-edge bundle"),
        ("null", "no sam-edge bundle"),
        ('"sam-edge-bundle"', "no sam-edge bundle"),
        ("{}", "no sam-edge bundle"),
        ('{"format": "mlpackage", "format_version": 1}', "no sam-edge bundle"),
        ('{"format": ["sam-edge-bundle"]}', "no sam-edge bundle"),
    ],
)
def test_a_text_that_is_no_manifest_is_refused(text, reason):
    assert reason in refused(text)


@pytest.mark.parametrize("field", ["recipe", "precision"])
def test_every_depth_of_nesting_is_refused_without_a_traceback(field):
    """Whatever reaches the recursion limit first: reading, formatting the value, or the digest."""
    text = json.dumps(changed(field, "HERE"))
    for depth in range(800, 1100):
        nested = "[" * depth + "]" * depth
        assert refused(text.replace('"HERE"', f'{{"a":{nested}}}' if field == "recipe" else nested))


@pytest.mark.parametrize("version", [6, 7, 10**20])
def test_a_newer_format_is_refused_with_the_advice_to_upgrade(version):
    line = refused(json.dumps({"format": "sam-edge-bundle", "format_version": version, "surprise": []}))
    assert f"format_version {version}, and this sam-edge reads up to 5: upgrade sam-edge" in line


@pytest.mark.parametrize("version", [MISSING, None, 0, -1, "1", 1.0, True, [1]])
def test_a_format_version_that_is_no_positive_integer_is_refused(version):
    line = refused(sealed(changed("format_version", version)))
    assert f"format_version {None if version is MISSING else version!r}: an integer is expected" in line


# Edited manifests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("encoder/inputs/0/shape", [1, 3, 512, 512]),
        ("encoder/inputs/0/shape", [3, 256, 256]),
        ("encoder/inputs/0/shape/3", MISSING),
        ("encoder/inputs/0/dtype", "uint8"),
        ("encoder/inputs/0/name", "picture"),
        ("encoder/inputs/0/name", MISSING),
        ("encoder/outputs", []),
        ("decoder/inputs/1/shape", ["B", "N", 2]),
        ("decoder/inputs/2/dtype", "int64"),
        ("decoder/inputs/4", MISSING),
        ("decoder/outputs/0/shape", [2, 3, 64, 64]),
        ("decoder/outputs/1/name", "scores"),
    ],
)
def test_an_edited_tensor_breaks_the_contract_even_with_a_new_digest(path, value):
    section, role = path.split("/")[:2]
    line = refused(sealed(changed(path, value)))
    assert f"{section}.{role} breaks the contract at " in line
    assert line.endswith("export the bundle again")
    if isinstance(value, str):
        assert repr(value) in line


@pytest.mark.parametrize("value", [MISSING, None, "image", {"name": "image"}, ["image"], [None]])
def test_tensors_that_are_no_list_of_objects_are_refused(value):
    assert "decoder.outputs is not a list of tensors" in refused(sealed(changed("decoder/outputs", value)))


@pytest.mark.parametrize(
    ("path", "value", "section"),
    [
        ("input_side", 512, "encoder.inputs"),
        ("embedding_channels", 256, "encoder.outputs"),
        ("capacity/points", 5, "decoder.inputs"),
        ("capacity/prompts", None, "decoder.inputs"),
    ],
)
def test_a_size_that_differs_from_the_tensors_breaks_the_contract(path, value, section):
    assert f"{section} breaks the contract" in refused(sealed(changed(path, value)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model/licence", "MIT"),
        ("model/checkpoint/sha256", "00" * 32),
        ("model/checkpoint/sha256", None),
        ("model/checkpoint/random", True),
        ("precision", "w8"),
        ("recipe/name", "fp16"),
        ("encoder/file", "other.onnx"),
        ("encoder/inputs/0/value_range", [0.0, 1.0]),
        ("encoder/inputs/0/meaning", "BGR"),
        ("preprocessing/pad_value/0", 0.0),
        ("postprocessing/mask_threshold", 0.5),
        ("files/encoder.onnx/bytes", 124),
        ("files/encoder.onnx", MISSING),
        ("files/extra.bin", {"sha256": "00" * 32, "bytes": 3}),
        ("tools/torch", MISSING),
        ("unknown", 1),
        ("digest", "00" * 32),
        ("digest", None),
        ("digest", MISSING),
    ],
)
def test_the_digest_detects_any_other_edit(path, value):
    assert refused(json.dumps(changed(path, value))) == (
        "manifest.json does not match its digest: it was edited; export the bundle again"
    )


def test_indentation_and_order_of_the_text_do_not_matter():
    content = document()
    assert Manifest.from_json(json.dumps(dict(reversed(content.items())), indent=7)) == complete()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("encoder/inputs/0/meaning", "a photo"),
        ("decoder/outputs/1/meaning", MISSING),
        ("preprocessing/resize", "as an older release put it"),
        ("postprocessing/slots", MISSING),
        ("preprocessing", {"words": "all new"}),
        ("a_field_of_later_releases", {"x": 1}),
    ],
)
def test_another_release_may_have_other_prose(path, value):
    assert Manifest.from_json(sealed(changed(path, value))) == complete()


def test_an_edit_before_writing_changes_the_digest():
    assert document(licence="MIT")["digest"] != document()["digest"] == document()["digest"]


def test_the_graphs_form_is_read_and_older_bundles_are_plain():
    made = complete(graph="ane", picture_input=True)
    assert Manifest.from_json(made.to_json()) == made
    older = document()
    del older["graph"], older["picture_input"]
    read = Manifest.from_json(sealed(older))
    assert (read.graph, read.picture_input) == ("plain", False)


@pytest.mark.parametrize(("field", "value"), [("graph", "tpu"), ("graph", 3), ("picture_input", "yes")])
def test_an_unknown_form_of_the_graphs_is_refused(field, value):
    with pytest.raises(BundleError, match=field):
        Manifest.from_json(sealed({**document(), field: value}))
