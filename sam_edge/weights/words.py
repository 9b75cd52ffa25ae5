"""Words for a model that was trained without: a vocabulary, its vectors, and the layers that draw a word's map.

They lie in a file of their own, beside the model's weights, which stay as they are. The file is safetensors: `vectors`
(W, D) and `maps.*`, the layers of `WordMaps`. Its metadata have the table of words, the model, and the SHA-256 of the
weights that the words were trained on: with other weights they mean nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam_edge.model import Sam
from sam_edge.model.nano import DETAIL_CHANNELS, SEMANTIC_CHANNELS
from sam_edge.model.words import VECTOR, WordMaps
from sam_edge_runtime.bundle.manifest import Checkpoint
from sam_edge_runtime.bundle.text import VECTORS_FILE, VOCABULARY, WORDS_FILE, TextPart
from sam_edge_runtime.bundle.vocabulary import Vocabulary
from sam_edge_runtime.errors import BundleError, CheckpointError, UsageError
from sam_edge_runtime.system.files import sha256_of, write_file
from sam_edge_runtime.system.text import read_text

from .catalogue import SHIPPED
from .checkpoint import CheckpointRecord
from .fit import check_fit
from .licences import NO_LICENCE_STATED
from .seeded import seed_module, seeded_array
from .source import PREFIX, parse_source

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED_WORDS = "shipped"  # as `--words`
FILE = "words.safetensors"
TABLE = Path(__file__).parent / "shipped" / "words.toml"
METADATA = "sam-edge-words"
MAPS = "maps."
NANO = "nano"


@dataclass(frozen=True, eq=False)
class Words:
    """A vocabulary and the layers that draw its maps.

    Attributes:
        vocabulary: words and vectors.
        maps: the layers, in evaluation mode.
        source: the file, or `random:SEED`.
        base: SHA-256 of the weights that they were trained on; None for random ones.
        licence: SPDX identifier.
    """

    vocabulary: Vocabulary
    maps: WordMaps
    source: Checkpoint
    base: str | None
    licence: str

    def part(self) -> TextPart:
        """The manifest's section on them."""
        return TextPart(
            VOCABULARY,
            self.vocabulary.vectors.shape[1],
            WORDS_FILE,
            VECTORS_FILE,
            source=self.source.source,
            sha256=self.source.sha256,
            licence=self.licence,
        )

    def write_vocabulary(self, folder: Path) -> None:
        """Write the files that `part` names into a bundle's folder."""
        (folder / WORDS_FILE).write_text(self.vocabulary.table(), encoding="utf-8")
        (folder / VECTORS_FILE).write_bytes(self.vocabulary.array())

    def give_to(self, sam: Sam, record: CheckpointRecord) -> None:
        """Let a model take text.

        Args:
            sam: the model.
            record: its weights.

        Raises:
            UsageError: the model is not nano.
            CheckpointError: the words were trained on other weights.
        """
        if self.base is not None and self.base != record.sha256:
            raise CheckpointError(
                f"{self.source.source} was trained on weights with SHA-256 {self.base[:12]}..., and {record.label} has "
                f"{(record.sha256 or 'none')[:12]}...: use the weights of its training, or train words for these"
            )
        sam.give_words(self.maps)


def read_table(path: Path = TABLE) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Names and their spellings in a TOML file of `name = [spelling, ...]`.

    Raises:
        UsageError: the file cannot be read, or is no such table.
    """
    try:
        table = tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the table of words {path} ({error}): check the file") from error
    for name, also in table.items():
        if not isinstance(also, list) or not all(isinstance(each, str) for each in also):
            raise UsageError(f"{path}: {name!r} is no list of spellings: write name = ['spelling', ...], or []")
    return tuple(table), tuple(tuple(also) for also in table.values())


def find_words(text: str, variant: str) -> Words:
    """The words that `--words` names.

    Args:
        text: `shipped`, a file that a words stage of `sam-edge train` wrote, or `random:SEED`.
        variant: the model that they are for.

    Raises:
        UsageError: there are none for this model.
        CheckpointError: the file cannot be read.
    """
    if variant != NANO:
        raise UsageError(f"--words is for --model {NANO} only, not for {variant}: leave it out")
    if text.startswith(PREFIX):
        seed = parse_source(text).seed or 0
        return random_words(*read_table(), seed)
    path = SHIPPED[NANO].path.with_name(FILE) if text == SHIPPED_WORDS else Path(text).expanduser()
    if text == SHIPPED_WORDS and not path.is_file():
        raise CheckpointError("no words come with this sam-edge: name a file that `sam-edge train words` wrote")
    return read_words(path)


def has_shipped_words(variant: str) -> bool:
    """Whether words for a model come with sam-edge."""
    return variant == NANO and SHIPPED[NANO].path.with_name(FILE).is_file()


def recorded_words(part: TextPart, variant: str) -> Words | None:
    """The words that a manifest names, or None if this machine does not have them."""
    if part.source.startswith(PREFIX):
        return find_words(part.source, variant)
    path = SHIPPED[NANO].path.with_name(FILE)
    return read_words(path) if path.is_file() and sha256_of(path) == part.sha256 else None


def random_words(names: tuple[str, ...], also: tuple[tuple[str, ...], ...], seed: int) -> Words:
    """Seeded words: structure and speed mean something, maps do not."""
    maps = empty_maps()
    seed_module(maps, seed)
    vectors = seeded_array("vectors", (len(names), VECTOR), seed) * np.float32(VECTOR**0.5)
    source = Checkpoint(f"{PREFIX}{seed}", None, random=True)
    return Words(Vocabulary(names, also, vectors), maps, source, None, NO_LICENCE_STATED)


def empty_maps(vector: int = VECTOR) -> WordMaps:
    """Untrained layers for nano's embedding and vectors of `vector` numbers, in evaluation mode."""
    return WordMaps(SEMANTIC_CHANNELS + DETAIL_CHANNELS, DETAIL_CHANNELS, vector).eval()


def read_words(path: Path) -> Words:
    """Words in a file that `write_words` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or no such file.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    if not path.is_file():
        raise CheckpointError(f"no words at {path}: name a file that `sam-edge train words` wrote, or `shipped`")
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads((file.metadata() or {})[METADATA])
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - no mapping
        names = tuple(str(word["name"]) for word in facts["words"])
        also = tuple(tuple(map(str, word["also"])) for word in facts["words"])
        base, licence = str(facts["base"]), str(facts["licence"])
        vectors = state.pop("vectors").numpy()
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} holds no words ({error!r:.100}): name a file of `sam-edge train words`"
        ) from error
    maps = empty_maps()
    state = {name.removeprefix(MAPS): tensor for name, tensor in state.items()}
    check_fit(state, maps, path.name)
    maps.load_state_dict(state)
    maps.requires_grad_(requires_grad=False)
    try:
        vocabulary = Vocabulary(names, also, vectors)
    except BundleError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Words(vocabulary, maps, Checkpoint(path.name, sha256_of(path), random=False), base, licence)


def write_words(path: Path, vocabulary: Vocabulary, maps: Mapping[str, torch.Tensor], base: str, licence: str) -> None:
    """Write words; numbers are stored in float16.

    Args:
        path: the file.
        vocabulary: words and vectors.
        maps: state of the layers.
        base: SHA-256 of the model's weights.
        licence: SPDX identifier.
    """
    from safetensors.torch import save  # noqa: PLC0415

    words = [{"name": n, "also": list(a)} for n, a in zip(vocabulary.names, vocabulary.also, strict=True)]
    facts = {"model": NANO, "base": base, "licence": licence, "words": words}
    state = {MAPS + name: tensor.detach().half().contiguous() for name, tensor in maps.items()}
    state["vectors"] = torch.from_numpy(vocabulary.vectors).half()
    write_file(path, save(state, metadata={METADATA: json.dumps(facts)}), overwrite=True)
