"""Texts to tokens, through Hugging Face's `tokenizers` library and the model's own `tokenizer.json`.

The file holds normalization, vocabulary, merges and the special tokens around a text. This module adds what the file
leaves to its user: padding to the encoder's length, and a cut where a text is too long. `transformers` cuts after a
token, which may be half a word; here the cut falls between words, and the caller is told what was left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.errors import BundleError, UsageError, first_line, missing_package, printable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
PADDINGS = ("<pad>", "<|endoftext|>")  # SigLIP 2's, and OpenAI's; the first that the vocabulary has counts
_SHOWN = 60  # characters of a text in a message


class TokenRules(Protocol):
    """What a text encoder asks of its tokens.

    Attributes:
        vocabulary: number of tokens.
        context: tokens of a text, padding included.
        end: the token that ends a text.
        pooled: whether texts are put into lower case, as SigLIP 2's are.
    """

    @property
    def vocabulary(self) -> int: ...  # noqa: D102
    @property
    def context(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> int: ...  # noqa: D102
    @property
    def pooled(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokenized texts.

    Attributes:
        ids: `(B, context)` float32 integers, padded at the end: what the text encoder takes.
        notes: a line for each text that was cut, for the user.
    """

    ids: Float32
    notes: tuple[str, ...] = ()


class TextTokenizer:
    """The tokenizer of one text encoder.

    Attributes:
        config: of the encoder.
        path: the file.

    Raises:
        UsageError: the `tokenizers` library is not installed.
        BundleError: the file is missing, is no tokenizer, lacks a token for padding, or has another vocabulary.
    """

    def __init__(self, path: Path, config: TokenRules) -> None:
        """Read a file.

        Args:
            path: `tokenizer.json`, or the folder that holds it.
            config: of the encoder.
        """
        self.config = config
        self.path = path / FILE if path.is_dir() else path
        self._tokenizer = _read(self.path, lower=config.pooled)
        padding = next((found for each in PADDINGS if (found := self._tokenizer.token_to_id(each)) is not None), None)
        if padding is None:
            raise BundleError(f"{self.path} has none of the tokens {', '.join(PADDINGS)}: copy the model's own file")
        self._padding = padding
        largest = max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        if largest >= config.vocabulary:
            raise BundleError(
                f"{self.path} has tokens up to {largest} where the encoder has {config.vocabulary}: copy the model's "
                "own file"
            )

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """The tokens of texts.

        Args:
            texts: one or more; SigLIP 2's are put into lower case, as in its training.

        Raises:
            UsageError: no text, an empty one, or one whose first word is too long for the encoder.
        """
        if not texts:
            raise UsageError("there is no text: give a word such as 'cat'")
        rows, notes = [], []
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise UsageError(f"the text {text!r:.60} is empty: give a word such as 'cat'")
            ids, note = self._fitting(text)
            rows.append(ids + [self._padding] * (self.config.context - len(ids)))
            notes += [note] if note else []
        return Tokens(np.asarray(rows, np.float32), tuple(notes))

    def _fitting(self, text: str) -> tuple[list[int], str]:
        """The tokens of as many words as fit, and a line where that is not all of them."""
        ids = self._ids(text)
        if len(ids) <= self.config.context:
            return ids, ""
        words, few, many = text.split(), 0, len(text.split())
        while many - few > 1:  # `few` words fit, `many` do not
            middle = (few + many) // 2
            if len(self._ids(" ".join(words[:middle]))) <= self.config.context:
                few = middle
            else:
                many = middle
        if few == 0:
            raise UsageError(
                f"the word {printable(words[0], _SHOWN)!r} has more than the {self.config.context} tokens that the "
                "encoder takes: shorten it"
            )
        note = (
            f"the text {printable(text, _SHOWN)!r} has {len(ids)} tokens, and the encoder takes {self.config.context}: "
            f"cut after {printable(words[few - 1], _SHOWN)!r}"
        )
        return self._ids(" ".join(words[:few])), note

    def _ids(self, text: str) -> list[int]:
        """Tokens of a text; its last is the end token, which some files leave to the caller."""
        ids = list(self._tokenizer.encode(text).ids)
        return ids if ids[-1:] == [self.config.end] else [*ids, self.config.end]


def _read(path: Path, *, lower: bool) -> Tokenizer:
    try:
        from tokenizers import Tokenizer, normalizers  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise UsageError(f"texts need {missing_package(error)}: pip install 'sam-edge[text]'") from error
    if not path.is_file():
        raise BundleError(f"there is no tokenizer at {path}: copy {FILE} from the model's repository")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise BundleError(f"{path} is no {FILE} ({first_line(error)}): copy it again") from error
    # Set by some files; both are done here.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if lower:  # as the library does it: Python's own knows Greek's final sigma
        first = normalizers.Lowercase()
        rest = tokenizer.normalizer
        tokenizer.normalizer = first if rest is None else normalizers.Sequence([first, rest])
    return tokenizer
