"""Tokens equal those of transformers' tokenizers, padding and special tokens included; long texts are cut at a word.

The models' own files cannot be fetched in tests, so the tokenizers are trained here on a seeded corpus, in the form
that the models' files have: byte-level BPE for CLIP, BPE with byte fallback for SigLIP 2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam_edge.model.clip.config import ClipConfig
from sam_edge_runtime.bundle.tokenizer import TextTokenizer
from sam_edge_runtime.errors import BundleError, UsageError

from .clip_models import small_config

transformers = pytest.importorskip("transformers", reason="transformers is a test dependency: pip install '.[dev]'")
tokenizers = pytest.importorskip("tokenizers", reason="the extra text: pip install 'sam-edge[text]'")

WORDS = {
    "English": "a red cup on the wooden table near two dogs don't they're running 1984 42nd street's window-frame",
    "German": "eine große Tasse über dem Öltisch für Füße und Äpfel straßenweise Käse",
    "French": "l'été déjà un garçon près du château où naît la forêt œuvre",
    "Spanish": "¿dónde está el niño pequeño? ¡mañana! un árbol año corazón",
    "Russian": "красная чашка на столе возле двух собак ёлка объект",
    "Greek": "ένα κόκκινο φλιτζάνι στο τραπέζι κοντά σε δύο σκύλους",
    "Arabic": "كوب أحمر على الطاولة بالقرب من كلبين",
    "Hindi": "मेज पर लाल कप दो कुत्तों के पास",
    "Chinese": "桌子 上 的 红色 杯子 两只狗 旁边",
    "Japanese": "テーブル の 上 の 赤い カップ と 二匹 の 犬",
    "Korean": "탁자 위의 빨간 컵 두 마리 개 근처",
    "Turkish": "İstanbul ılık gölgeli ağaç şişe çiçek",
    "Thai": "ถ้วยสีแดง บนโต๊ะ ใกล้ สุนัข",
    "Emoji": "🐕 ☕ 👩‍👧 naïve café  Ａ ﬁn",
}


def texts(count: int) -> list[str]:
    """Seeded texts of one to seven words of one or two languages, with odd spaces and capitals."""
    draw = np.random.default_rng(11)
    pools = [text.split() for text in WORDS.values()]
    made = []
    for index in range(count):
        pool = pools[index % len(pools)] + (pools[int(draw.integers(len(pools)))] if index % 3 == 0 else [])
        words = [pool[int(draw.integers(len(pool)))] for _ in range(int(draw.integers(1, 8)))]
        text = str(draw.choice([" ", "  ", "\t", ", ", "-"])).join(words)
        made.append({0: text, 1: text.upper(), 2: f"  {text}\n", 3: text.title()}[index % 4])
    return made


def trained(folder: Path, config: ClipConfig) -> object:
    """transformers' tokenizer with a vocabulary of the corpus; its file is written to `folder`."""
    bpe, trainer_of = tokenizers.models.BPE, tokenizers.trainers.BpeTrainer
    if config.pooled:
        raw = tokenizers.Tokenizer(bpe(unk_token="<unk>", fuse_unk=True, byte_fallback=True))  # noqa: S106
        raw.normalizer = tokenizers.normalizers.Replace(" ", "▁")
        raw.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
        special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainer_of(vocab_size=700, special_tokens=special, show_progress=False)
    else:
        raw = tokenizers.Tokenizer(bpe(end_of_word_suffix="</w>"))
        raw.normalizer = tokenizers.normalizers.Lowercase()
        raw.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
            [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = trainer_of(
            vocab_size=900, initial_alphabet=alphabet, end_of_word_suffix="</w>", special_tokens=[], show_progress=False
        )
    raw.train_from_iterator([each.lower() for each in WORDS.values()] * 3, trainer)
    import json

    model = json.loads(raw.to_str())["model"]
    vocabulary, merges = dict(model["vocab"]), [tuple(each) for each in model["merges"]]
    if config.pooled:
        made = transformers.Siglip2Tokenizer(vocab=vocabulary, merges=merges)
    else:
        # CLIP's vocabulary has each byte at the end of a word, too, and its two special tokens last.
        for byte in sorted(alphabet):
            vocabulary.setdefault(f"{byte}</w>", len(vocabulary))
        vocabulary |= {"<|startoftext|>": len(vocabulary), "<|endoftext|>": len(vocabulary) + 1}
        made = transformers.CLIPTokenizer(vocab=vocabulary, merges=merges)
    made.save_pretrained(folder)
    return made


def config_for(title: str, theirs: object) -> ClipConfig:
    """The family's conventions with this vocabulary."""
    changed = {"context": 64 if title == "SigLIP 2" else 77, "vocabulary": len(theirs), "end": theirs.eos_token_id}
    return ClipConfig(**{**vars(small_config(title)), **changed})


@pytest.fixture(scope="module", params=["CLIP", "SigLIP 2"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TextTokenizer, object]:
    folder = tmp_path_factory.mktemp("tokenizer")
    theirs = trained(folder, small_config(request.param))
    return TextTokenizer(folder, config_for(request.param, theirs)), theirs


def read_by_or_ended(theirs: object, ours: TextTokenizer, given: list[str]) -> np.ndarray:
    """What transformers reads, padded on the right; with an end token where its tokenizer was made without one."""
    longest = ours.config.context
    found = theirs(given, padding="max_length", max_length=longest, truncation=True, padding_side="right")
    ids = np.asarray(found["input_ids"])
    if not (ids == ours.config.end).any():
        lengths = np.asarray(found["attention_mask"]).sum(axis=1)
        ids[np.arange(len(ids)), np.minimum(lengths, longest - 1)] = ours.config.end
    return ids


def test_a_thousand_texts_of_many_languages_are_read_alike(pair):
    ours, theirs = pair
    given = texts(1000)
    found, wanted = ours(given), read_by_or_ended(theirs, ours, given)
    assert found.notes == ()
    assert found.ids.dtype == np.float32
    different = [text for text, a, b in zip(given, found.ids, wanted, strict=True) if not np.array_equal(a, b)]
    assert different == []
    assert len({tuple(row) for row in found.ids}) > 900
    assert ((found.ids == ours.config.end).sum(axis=1) >= 1).all()


def test_a_long_text_is_cut_between_words_and_the_user_is_told(pair):
    ours, theirs = pair
    words = ["straßenweise", "window-frame", "объект"] * 20
    found = ours([" ".join(words), "cup"])
    (note,) = found.notes
    assert f"and the encoder takes {ours.config.context}: cut after " in note
    kept = max(count for count in range(1, len(words)) if ours([" ".join(words[:count])]).notes == ())
    assert note.endswith(f"cut after {words[kept - 1]!r}")
    np.testing.assert_array_equal(found.ids[0], ours([" ".join(words[:kept])]).ids[0])
    assert 2 < kept < len(words) - 2
    np.testing.assert_array_equal(found.ids[0], read_by_or_ended(theirs, ours, [" ".join(words[:kept])])[0])


def test_bad_texts_and_files_are_refused(pair, tmp_path):
    ours, _ = pair
    for given, words in (
        ([], "there is no text"),
        (["cup", " \t"], r"the text ' \\t' is empty"),
        (["ö" * 500], "has more than the .* tokens that the encoder takes: shorten it"),
    ):
        with pytest.raises(UsageError, match=words):
            ours(given)
    with pytest.raises(BundleError, match="there is no tokenizer at"):
        TextTokenizer(tmp_path, ours.config)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"is no tokenizer.json"):
        TextTokenizer(tmp_path, ours.config)
    small = ClipConfig(**{**vars(ours.config), "vocabulary": 100, "end": 99})
    with pytest.raises(BundleError, match=r"has tokens up to .* where the encoder has 100"):
        TextTokenizer(ours.path, small)
