"""A vocabulary: words with synonyms and plurals, and a vector for each.

The table is JSON, the vectors are raw numbers, so that an app in any language reads both in a few lines:

    {"format": "sam-edge-words", "words": [{"name": "cat", "also": ["cats", "kitten"]}, ...]}

Row i of the vectors belongs to word i. A text is looked up without regard to case, hyphens and spaces around it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.errors import BundleError, PromptError, short_name
from sam_edge_runtime.system.documents import parse_json

from .text import VOCABULARY, TextPart

FORMAT = "sam-edge-words"
LARGEST_TABLE = 4 << 20  # bytes
MOST_WORDS = 1 << 16
LONGEST_WORD = 100  # characters
SHOWN = 4  # near words that an error names
_NEAR = 0.6  # difflib's ratio
_SPACES = re.compile(r"[\s_\-]+")


def plain(text: str) -> str:
    """A text as it is looked up: lower case, single spaces instead of hyphens, underscores and line ends."""
    return _SPACES.sub(" ", text).strip().casefold()


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Known words and their vectors.

    Attributes:
        names: W names, each the first of its word's spellings.
        also: for each name its synonyms and plurals.
        vectors: `(W, D)` float32.

    Raises:
        BundleError: a name is empty, too long or given twice, or vectors do not fit or are not finite.
    """

    names: tuple[str, ...]
    also: tuple[tuple[str, ...], ...]
    vectors: Float32

    def __post_init__(self) -> None:
        if not 0 < len(self.names) <= MOST_WORDS or len(self.also) != len(self.names):
            raise BundleError(f"a vocabulary of {len(self.names)} words: 1 to {MOST_WORDS} are expected")
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.names):
            raise BundleError(
                f"the vectors of the vocabulary have shape {self.vectors.shape}: one row for each of the "
                f"{len(self.names)} words is expected; export the bundle again"
            )
        if not np.isfinite(self.vectors).all():
            raise BundleError("the vectors of the vocabulary hold NaN or infinity: export the bundle again")
        seen: dict[str, str] = {}
        for name, others in zip(self.names, self.also, strict=True):
            for spelling in (name, *others):
                key = plain(spelling)
                if not key or len(key) > LONGEST_WORD:
                    raise BundleError(f"{spelling!r:.120} is no word of 1 to {LONGEST_WORD} characters")
                if seen.setdefault(key, name) != name:
                    raise BundleError(f"{spelling!r} is a spelling of {seen[key]!r} and of {name!r}: remove one")

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {
            plain(spelling): row
            for row, (name, others) in enumerate(zip(self.names, self.also, strict=True))
            for spelling in (name, *others)
        }

    def row(self, text: str) -> int:
        """The number of the word that `text` spells.

        Raises:
            PromptError: it is empty, or no known word; the message names the nearest ones.
        """
        key = plain(text)
        if not key:
            raise PromptError("the text is empty: give a word such as " + repr(self.names[0]))
        row = self._rows.get(key)
        if row is None:
            raise PromptError(self._unknown(text))
        return row

    def _unknown(self, text: str) -> str:
        """What is near a text that is no known word: similar spellings, and names that share a word with it."""
        key = plain(text)[:LONGEST_WORD]
        near = [self.names[self._rows[each]] for each in difflib.get_close_matches(key, self._rows, SHOWN, _NEAR)]
        near += [self.names[row] for spelling, row in self._rows.items() if set(spelling.split()) & set(key.split())]
        shown = list(dict.fromkeys(near))[:SHOWN]
        if not shown:
            loose = difflib.get_close_matches(key, self._rows, SHOWN, 0.0)
            shown = list(dict.fromkeys(self.names[self._rows[each]] for each in loose))
        return (
            f"the vocabulary of {len(self.names)} words does not have {short_name(text)!r}: the nearest are "
            f"{', '.join(map(repr, shown))}; `sam-edge info BUNDLE` lists all"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing: a word is known, or refused."""
        return ()

    def spelled(self, text: str) -> str:
        """The first spelling of the word that `text` spells.

        Raises:
            PromptError: as `row`.
        """
        return self.names[self.row(text)]

    def embed(self, texts: Sequence[str]) -> Float32:
        """The vectors of texts, `(B, D)` float32.

        Raises:
            PromptError: one is empty or unknown.
        """
        return self.vectors[[self.row(text) for text in texts]]

    def table(self) -> str:
        """The text of the table of words."""
        words = [{"name": name, "also": list(also)} for name, also in zip(self.names, self.also, strict=True)]
        lines = ",\n".join(json.dumps(word, ensure_ascii=False) for word in words)
        return f'{{"format": "{FORMAT}", "words": [\n{lines}\n]}}\n'

    def array(self) -> bytes:
        """The bytes of the array of vectors."""
        return self.vectors.astype("<f4").tobytes()

    @classmethod
    def read(cls, table: bytes, array: bytes, channels: int) -> Vocabulary:
        """The vocabulary of a table and an array.

        Args:
            table: JSON.
            array: float32, little-endian, `(W, channels)`.
            channels: numbers D of a vector.

        Raises:
            BundleError: either is damaged, or they do not fit together.
        """
        try:
            document = parse_json(table)
            words = document["words"]
            if document["format"] != FORMAT:
                raise ValueError(f"format is {document['format']!r:.40}")
            names = tuple(_text(word["name"]) for word in words)
            also = tuple(tuple(map(_text, word.get("also", []))) for word in words)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"the table of words is no {FORMAT} ({error!r:.100}): export the bundle again") from error
        if len(array) != 4 * channels * len(names):
            raise BundleError(
                f"the vectors of the vocabulary have {len(array)} bytes, and {len(names)} words of {channels} numbers "
                f"need {4 * channels * len(names)}: export the bundle again"
            )
        return cls(names, also, np.frombuffer(array, "<f4").astype(np.float32).reshape(len(names), channels))

    @classmethod
    def of_bundle(cls, root: Path, part: TextPart | None) -> Vocabulary:
        """The vocabulary of a bundle.

        Args:
            root: the bundle's folder.
            part: of its manifest; None where it has none.

        Raises:
            PromptError: the bundle has no vocabulary.
            BundleError: its files are damaged.
        """
        if part is None or part.kind != VOCABULARY or part.vectors is None:
            has = "no text" if part is None else f"a text {part.kind} instead of a vocabulary"
            raise PromptError(
                f"{root} has {has}, so it knows no words: export one that does, with `sam-edge export nano --words "
                "shipped`"
            )
        try:
            files = {name: root / name for name in part.files}
            if files[part.file].stat().st_size > LARGEST_TABLE:
                raise BundleError(f"{files[part.file]} has more bytes than any table of words: export it again")
            return cls.read(files[part.file].read_bytes(), files[part.vectors].read_bytes(), part.channels)
        except OSError as error:
            raise BundleError(f"{error.filename} cannot be read ({error.strerror}): export the bundle again") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value
