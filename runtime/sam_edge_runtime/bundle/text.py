"""What turns words into text embeddings: the third artifact of a bundle.

| kind | files |
|---|---|
| `vocabulary` | a table of words (JSON), and their vectors as one array (float32, little-endian, row by row) |
| `tower` | a graph from tokens to an embedding, and the files of its tokenizer |

Both are data: nothing in them is run but a graph by its engine. A bundle may also have a decoder that takes text and
neither of the two; an app then brings the embeddings.

The graph of a tower takes `text_tokens (B, tokens)`, integers as float32, and returns `text_embeddings (B, D)`. The
tokenizer is a `tokenizer.json` as Hugging Face's `tokenizers` library reads it; after its tokens comes `end_token`,
where they do not end with it, and padding up to `tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.errors import BundleError

from .conventions import LARGEST_TEXT
from .fields import Fields

VOCABULARY, TOWER = "vocabulary", "tower"
KINDS = (VOCABULARY, TOWER)
WORDS_FILE, VECTORS_FILE = "text.json", "text.bin"
MOST_TOKENS = 4096
MOST_TOKENIZER_FILES = 8
MOST_TOKEN_IDS = 1 << 22


class TextReader(Protocol):
    """What reads the texts of a bundle: a vocabulary, or a tower."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should be told of the texts that were embedded, such as one that was cut."""

    def spelled(self, text: str) -> str:
        """The text as results show it: a known word's first spelling, or the text itself.

        Raises:
            PromptError: it is empty, or no known word.
        """

    def embed(self, texts: Sequence[str]) -> Float32:
        """The embeddings of texts, `(B, D)` float32.

        Raises:
            PromptError: one is empty, unknown or too long.
        """


@dataclass(frozen=True)
class TowerRules:
    """What a tower's graph asks of its tokens; see `sam_edge_runtime.bundle.tokenizer.TokenRules`.

    Attributes:
        context: longest text, in tokens, padding included.
        vocabulary: number of tokens.
        end: the token that ends a text.
        pooled: whether texts are put into lower case.
    """

    context: int
    vocabulary: int
    end: int
    pooled: bool = False


@dataclass(frozen=True)
class TextPart:
    """The manifest's section `text`.

    Attributes:
        kind: `vocabulary` or `tower`.
        channels: numbers D of an embedding; equal to the decoder's `text_channels`.
        file: the table of words, or the graph; relative to the bundle, as the other files.
        vectors: the array of a vocabulary; None for a tower.
        tokenizer: files of a tower's tokenizer.
        rules: of a tower's tokens; None for a vocabulary.
        source: name of the file of weights that the embeddings come from, or `random:SEED`.
        sha256: of that file; None for random weights.
        licence: SPDX identifier of their licence.
    """

    kind: str
    channels: int
    file: str
    vectors: str | None = None
    tokenizer: tuple[str, ...] = ()
    rules: TowerRules | None = None
    source: str = ""
    sha256: str | None = None
    licence: str = "NOASSERTION"

    @property
    def files(self) -> tuple[str, ...]:
        """All files, without doubles."""
        named = (self.file, *((self.vectors,) if self.vectors is not None else ()), *self.tokenizer)
        return tuple(dict.fromkeys(named))

    def to_json(self) -> dict[str, Any]:
        """The fields, as the manifest has them."""
        of_kind: dict[str, Any] = {"vectors": self.vectors}
        if self.rules is not None:
            of_kind = {
                "tokens": self.rules.context,
                "vocabulary": self.rules.vocabulary,
                "end_token": self.rules.end,
                "lower_case": self.rules.pooled,
                "tokenizer": [{"file": each} for each in self.tokenizer],
            }
        return {
            "kind": self.kind,
            "channels": self.channels,
            "file": self.file,
            **of_kind,
            "source": self.source,
            "sha256": self.sha256,
            "licence": self.licence,
        }

    @classmethod
    def read(cls, section: Fields) -> TextPart:
        """The text part in a manifest's section.

        Raises:
            BundleError: a field is missing, of the wrong type or out of range.
        """
        kind = section.text("kind")
        if kind not in KINDS:
            raise section.error("kind", f"one of {', '.join(KINDS)} is expected")
        tower = kind == TOWER
        return cls(
            kind=kind,
            channels=section.integer("channels", most=LARGEST_TEXT),
            file=section.text("file"),
            vectors=None if tower else section.text("vectors"),
            tokenizer=tuple(each.text("file") for each in section.sections("tokenizer", MOST_TOKENIZER_FILES)),
            rules=_rules(section) if tower else None,
            source=section.text("source"),
            sha256=section.optional_text("sha256"),
            licence=section.text("licence"),
        )

    def check(self, text_channels: int | None, files: Mapping[str, object], file: str) -> None:
        """Refuse a part that does not fit the decoder, or whose files have no hash.

        Args:
            text_channels: of the decoder's conventions.
            files: the manifest's, by name.
            file: the manifest's name, for messages.

        Raises:
            BundleError: it does not fit, or a hash is missing.
        """
        if self.channels != text_channels:
            raise BundleError(
                f"{file}: text has {self.channels} channels, and the decoder takes {text_channels}: export the bundle "
                "again"
            )
        for name in self.files:
            if name not in files and not any(each.startswith(f"{name}/") for each in files):
                raise BundleError(f"{file} names the text file {name!r:.200} but not its hash: export the bundle again")


def _rules(section: Fields) -> TowerRules:
    vocabulary = section.integer("vocabulary", most=MOST_TOKEN_IDS)
    return TowerRules(
        section.integer("tokens", most=MOST_TOKENS),
        vocabulary,
        section.integer("end_token", least=0, most=vocabulary - 1),
        section.flag("lower_case"),
    )
