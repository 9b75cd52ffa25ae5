"""A vocabulary: what it finds, its files, and one clear line for what it does not know or cannot read."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sam_edge_runtime.bundle.bundle import Bundle, record_files
from sam_edge_runtime.bundle.conventions import Conventions
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.text import TOWER, VECTORS_FILE, VOCABULARY, WORDS_FILE, TextPart, TowerRules
from sam_edge_runtime.bundle.vocabulary import Vocabulary
from sam_edge_runtime.errors import BundleError, PromptError
from tests.runtime.bundle.test_manifest import changed, complete, refused, sealed

NAMES = ("cat", "teddy bear", "t-shirt")
ALSO = (("cats", "kitten"), ("teddy",), ())
VECTORS = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
WITH_TEXT = Conventions(text_channels=4, object_score=True)
PART = TextPart(VOCABULARY, 4, WORDS_FILE, VECTORS_FILE, source="words.safetensors", sha256="ab" * 32, licence="MIT")


@pytest.fixture
def words() -> Vocabulary:
    return Vocabulary(NAMES, ALSO, VECTORS)


def manifest_with_text(part: TextPart = PART) -> Manifest:
    plain = complete()
    files = {**plain.files, **dict.fromkeys(part.files, plain.files["decoder.onnx"])}
    return replace(plain, conventions=WITH_TEXT, text=part, files=files)


# Words --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "row"), [("cat", 0), ("Cats", 0), (" kitten\n", 0), ("Teddy-Bear", 1), ("teddy  bear", 1), ("T Shirt", 2)]
)
def test_spellings_find_their_word(words, text, row):
    assert words.row(text) == row
    np.testing.assert_array_equal(words.embed([text, "teddy"]), VECTORS[[row, 1]])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the text is empty"),
        (" - ", "the text is empty"),
        ("cta", "'cta': the nearest are 'cat'"),
        ("bear", "the nearest are 'teddy bear'"),
        ("Katze", "3 words does not have 'Katze': the nearest are 'cat'"),
        ("x" * 5000, "sam-edge info"),
        ("\x1b[31m", r"\x1b[31m"),
    ],
)
def test_a_text_that_is_no_word_gets_one_line_with_the_nearest(words, text, says):
    with pytest.raises(PromptError) as caught:
        words.row(text)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


# Files --------------------------------------------------------------------------------------------------------------


def test_a_written_vocabulary_is_read_back(words):
    read = Vocabulary.read(words.table().encode(), words.array(), 4)
    assert (read.names, read.also) == (NAMES, ALSO)
    np.testing.assert_array_equal(read.vectors, VECTORS)


def table(*words: object) -> bytes:
    return json.dumps({"format": "sam-edge-words", "words": list(words)}).encode()


@pytest.mark.parametrize(
    ("document", "array", "says"),
    [
        (b"[1]", b"", "no sam-edge-words"),
        (b"{", b"", "no sam-edge-words"),
        (b'{"format": "other", "words": []}', b"", "no sam-edge-words"),
        (table({"name": 1}), bytes(16), "no sam-edge-words"),
        (table({"name": "a"}), bytes(12), "12 bytes, and 1 words of 4 numbers need 16"),
        (table(), b"", "0 words"),
        (table({"name": ""}), bytes(16), "no word of 1 to"),
        (table({"name": "a", "also": ["b"]}, {"name": "B"}), bytes(32), "spelling of 'a' and of 'B'"),
        (table({"name": "a"}), np.full(4, np.nan, "<f4").tobytes(), "NaN or infinity"),
    ],
)
def test_damaged_files_are_refused(document, array, says):
    with pytest.raises(BundleError, match=says):
        Vocabulary.read(document, array, 4)


# Manifests and bundles ----------------------------------------------------------------------------------------------


def test_a_bundle_with_text_is_of_format_5_and_its_decoder_takes_two_more_tensors():
    original = manifest_with_text()
    text = original.to_json()
    assert Manifest.from_json(text) == original
    content = json.loads(text)
    assert content["format_version"] == 5
    inputs = {each["name"]: each["shape"] for each in content["decoder"]["inputs"]}
    assert list(inputs)[-2:] == ["text_embeddings", "has_text"]
    assert (inputs["text_embeddings"], inputs["has_text"]) == ([2, 4], [2])
    assert content["text"]["vectors"] == "text.bin"


def test_a_tower_is_described_too():
    tower = part_of_tower()
    original = manifest_with_text(tower)
    assert Manifest.from_json(original.to_json()) == original
    assert tower.files == ("text.onnx", "tokenizer.json")
    with pytest.raises(PromptError, match="a text tower instead of a vocabulary"):
        Vocabulary.of_bundle(__file__, tower)


def part_of_tower() -> TextPart:
    rules = TowerRules(77, 49408, 49407, pooled=True)
    return TextPart(TOWER, 4, "text.onnx", tokenizer=("tokenizer.json",), rules=rules, source="clip.bin")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("text/tokens", 0, "text.tokens is 0, at least 1 is expected"),
        ("text/vocabulary", None, "text.vocabulary is None"),
        ("text/end_token", 49408, "text.end_token is 49408"),
        ("text/lower_case", "no", "text.lower_case is 'no'"),
    ],
)
def test_wrong_rules_of_a_tower_are_refused(path, value, says):
    content = json.loads(manifest_with_text(part_of_tower()).to_json())
    assert says in refused(sealed(changed(path, value, content)))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("text/kind", "poem", "text.kind is 'poem', one of vocabulary, tower is expected"),
        ("text/channels", 5, "text has 5 channels, and the decoder takes 4"),
        ("text/vectors", 3, "text.vectors is 3, a string is expected"),
        ("text/file", "other.json", "text file 'other.json' but not its hash"),
        ("conventions/text_channels", 0, "conventions.text_channels is 0, at least 1 is expected"),
    ],
)
def test_wrong_sections_on_text_are_refused(path, value, says):
    content = json.loads(manifest_with_text().to_json())
    assert says in refused(sealed(changed(path, value, content)))


@pytest.fixture
def folder(tmp_path, words):
    """A bundle without graphs that run, but with a vocabulary."""
    for name in ("encoder.onnx", "decoder.onnx"):
        (tmp_path / name).write_bytes(b"graph")
    (tmp_path / WORDS_FILE).write_text(words.table())
    (tmp_path / VECTORS_FILE).write_bytes(words.array())
    manifest = replace(complete(), conventions=WITH_TEXT, text=PART, files=record_files(tmp_path))
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    return tmp_path


def test_a_bundle_gives_its_vocabulary(folder):
    np.testing.assert_array_equal(Bundle.open(folder).vocabulary().embed(["kitten"]), VECTORS[:1])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (WORDS_FILE, None, "text.json is missing"),
        (VECTORS_FILE, None, "text.bin is missing"),
        (VECTORS_FILE, VECTORS[::-1].tobytes(), "text.bin has SHA-256"),
        (WORDS_FILE, b"{}", "text.json has 2 bytes"),
    ],
)
def test_a_vocabulary_that_was_changed_or_lost_is_refused(folder, name, content, says):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=says):
        Bundle.open(folder)


def test_a_bundle_without_text_knows_no_words(tmp_path):
    with pytest.raises(PromptError, match="has no text, so it knows no words"):
        Vocabulary.of_bundle(tmp_path, None)
