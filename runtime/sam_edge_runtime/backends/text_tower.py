"""A bundle's text tower: any text to an embedding, by the tokenizer and the graph that lie in the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.bundle.text import TextPart
from sam_edge_runtime.bundle.tokenizer import TextTokenizer
from sam_edge_runtime.errors import BackendError, BundleError, PromptError

from .artifact import Artifact, open_artifact

TOKENS, EMBEDDINGS = "text_tokens", "text_embeddings"  # the graph's input and output


class TextTower:
    """Reads the texts of a bundle whose text part is a tower; the graph is loaded by the first text."""

    def __init__(self, bundle: Bundle, part: TextPart) -> None:
        """Read the tokenizer.

        Args:
            bundle: the opened bundle.
            part: of its manifest, with the rules of a tower.

        Raises:
            UsageError: the `tokenizers` library is not installed.
            BundleError: the part is no tower, or the tokenizer is missing, damaged or of another vocabulary.
        """
        if part.rules is None or not part.tokenizer:
            raise BundleError(f"{bundle.root} has no tokenizer for its text {part.kind}: export it again")
        self._bundle, self._part = bundle, part
        self._tokenizer = TextTokenizer(bundle.root / part.tokenizer[0], part.rules)
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each text that was cut."""
        return self._notes

    @cached_property
    def _graph(self) -> Artifact:
        return open_artifact(self._bundle.root / self._part.file, self._bundle.manifest.target)

    def spelled(self, text: str) -> str:
        """The text without spaces around it.

        Raises:
            PromptError: it is empty.
        """
        if not text.strip():
            raise PromptError("the text is empty: give a word such as 'cat'")
        return text.strip()

    def embed(self, texts: Sequence[str]) -> Float32:
        """Embeddings `(B, D)` of texts.

        Raises:
            PromptError: a text is empty, or its first word is too long.
            BackendError: the engine failed, or the graph's output is not finite.
        """
        tokens = self._tokenizer([self.spelled(text) for text in texts])
        self._notes += tuple(note for note in tokens.notes if note not in self._notes)
        single = target_named(self._bundle.manifest.target).fixed_shapes
        calls = [tokens.ids[row : row + 1] for row in range(len(tokens.ids))] if single else [tokens.ids]
        embeddings = np.concatenate([self._graph({TOKENS: each})[EMBEDDINGS] for each in calls]).astype(np.float32)
        if embeddings.shape != (len(texts), self._part.channels) or not np.isfinite(embeddings).all():
            raise BackendError(
                f"{self._part.file} gives embeddings of shape {embeddings.shape} that do not fit, or are not finite: "
                "export the bundle again"
            )
        return embeddings
