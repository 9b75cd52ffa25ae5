"""Structure-aware mutations: of JSON documents, bytes, arrays and single arguments, each a function of a generator.

Random bytes seldom get past a reader's first check. So a mutation keeps most of a valid input and changes a part of it:
a value becomes one that a program rarely expects, a key goes, a list grows, a number of the header changes.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

DEEP = 3000  # levels of nesting, above Python's recursion limit
LONG = 20_000  # characters


def deep(levels: int = DEEP) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def values(rng: np.random.Generator) -> Any:
    """A value that a program rarely expects."""
    choices: list[Any] = [
        None,
        True,
        False,
        0,
        -1,
        1,
        2,
        255,
        2**31,
        -(2**31) - 1,
        2**53,
        2**63,
        2**64,
        10**30,
        0.5,
        -0.0,
        1e-320,
        1e308,
        math.nan,
        math.inf,
        -math.inf,
        "",
        "0",
        "640",
        "nan",
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\windows\\win.ini",
        "name\nwith\nlines",
        "\x1b[2J\x1b]0;title\x07",
        "[red]markup[/red]",
        "<script>alert(1)</script>",
        "\x00",
        "\udcff",
        "e\u0301\u202e",
        "a" * LONG,
        [],
        [[]],
        {},
        {"": ""},
        [0, 1, 2],
        [None],
        [-1, -1],
        [2**40, 2**40],
        ["x"],
        {"size": [1, 1], "counts": [1]},
        [[[[1.0]]]],
    ]
    return copy.deepcopy(choices[rng.integers(len(choices))])


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys or indices."""
    places: list[tuple[Any, Any]] = []
    stack = [document]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            places += [(node, key) for key in node]
            stack += node.values()
        elif isinstance(node, list):
            places += [(node, index) for index in range(len(node))]
            stack += node
    return places


def document(rng: np.random.Generator, valid: Any) -> Any:
    """A JSON document with one to three places changed."""
    changed = copy.deepcopy(valid)
    for _ in range(rng.integers(1, 4)):
        places = _places(changed)
        if not places:
            return values(rng)
        node, key = places[rng.integers(len(places))]
        match rng.integers(7):
            case 0:
                del node[key]
            case 1 if isinstance(node, list):
                node.extend(copy.deepcopy(node) * int(rng.integers(1, 4)))
            case 2 if isinstance(node, dict):
                node[str(values(rng))[:80]] = node.pop(key)
            case 3 if isinstance(node[key], int | float) and not isinstance(node[key], bool):
                node[key] = node[key] * int(rng.choice([-1, 2, 10**6])) + int(rng.integers(-2, 3))
            case 4 if isinstance(node[key], str):
                node[key] = node[key] + str(values(rng))[:80]
            case _:
                node[key] = values(rng)
    return changed


def json_text(rng: np.random.Generator, valid: Any) -> bytes:
    """The text of a changed document, now and then broken as text."""
    match rng.integers(14):
        case 0:
            return b'{"a":' * DEEP + b"1" + b"}" * DEEP
        case 1:
            return b"[" * 100_000
        case 2:
            return json.dumps(valid).encode("utf-16")
        case 3:
            return content(rng, json.dumps(valid).encode())
        case 4:
            text = json.dumps(valid)
            digits = [place for place, character in enumerate(text) if character.isdigit()]
            place = digits[rng.integers(len(digits))] if digits else 0
            return (text[:place] + "9" * int(rng.choice([20, 400, 5000])) + text[place:]).encode()
        case _:
            # Lone surrogates become escapes; NaN and Infinity are written as Python's reader accepts them.
            return json.dumps(document(rng, valid)).encode()


def content(rng: np.random.Generator, valid: bytes) -> bytes:
    """Bytes with a few places changed, cut off, repeated or moved."""
    data = bytearray(valid)
    for _ in range(rng.integers(1, 5)):
        if not data:
            return bytes(rng.integers(0, 256, 16, np.uint8))
        start = int(rng.integers(len(data)))
        stop = min(len(data), start + int(rng.choice([1, 2, 4, 8, 64])))
        match rng.integers(7):
            case 0:
                data[start:stop] = bytes(rng.integers(0, 256, stop - start, np.uint8))
            case 1:
                data[start:stop] = b"\xff" * (stop - start)
            case 2:
                data[start:stop] = bytes(stop - start)
            case 3:
                del data[start:]
            case 4:
                data[start:start] = data[start:stop] * int(rng.integers(1, 4))
            case 5:
                del data[start:stop]
            case _:
                data[start] ^= 1 << int(rng.integers(8))
    return bytes(data)


def array(rng: np.random.Generator, valid: np.ndarray) -> Any:
    """An array of another shape, dtype or value, or no array."""
    changes: list[Callable[[], Any]] = [
        lambda: valid.astype(rng.choice(["f2", "f8", "i1", "u8", "c8", "?", "O", "U3"])),
        lambda: valid[..., None],
        lambda: valid.ravel()[: rng.integers(valid.size + 1)],
        lambda: np.zeros((0, *valid.shape[1:]), valid.dtype),
        lambda: np.asarray(valid.tolist() if valid.size < 100 else 0, dtype=object),
        lambda: np.full(valid.shape, rng.choice([np.nan, np.inf, -np.inf, 1e38])),
        lambda: np.array(values(rng), dtype=object),
        lambda: valid.T,
        lambda: values(rng),
    ]
    return changes[rng.integers(len(changes))]()
