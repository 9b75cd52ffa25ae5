"""Typed access to a JSON document that is checked field by field."""

from __future__ import annotations

import sys
from typing import Any

from sam_edge_runtime.errors import BundleError


class Fields:
    """Typed access to a JSON object.

    Attributes:
        mapping: the object itself.

    Every reading method raises `BundleError`, which names the path of the field that is missing or of the wrong type.
    """

    def __init__(self, mapping: dict[str, Any], file: str, path: str = "") -> None:
        """Wrap `mapping`, which is the object at `path` in the document `file`; an inner path ends with a dot."""
        self.mapping = mapping
        self._file, self._path = file, path

    def _get(self, key: str, kind: type, what: str) -> Any:
        value = self.mapping.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(key, f"{what} is expected")
        return value

    def error(self, key: str, expected: str) -> BundleError:
        """That the field at `key` is not what is `expected`."""
        where = repr(self._path + key)[1:-1]  # file names come from the document and may contain line breaks
        value = _shown(self.mapping.get(key))
        return BundleError(f"{self._file}: {where:.200} is {value:.60}, {expected}: export the bundle again")

    def section(self, key: str) -> Fields:
        """The object at `key`."""
        return Fields(self._get(key, dict, "an object"), self._file, f"{self._path}{key}.")

    def sections(self, key: str, most: int) -> list[Fields]:
        """The list of at most `most` objects at `key`; empty where there is no such field."""
        values = self.mapping.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values) or len(values) > most:
            raise self.error(key, f"a list of up to {most} objects is expected")
        return [Fields(value, self._file, f"{self._path}{key}.{index}.") for index, value in enumerate(values)]

    def text(self, key: str) -> str:
        """The string at `key`."""
        value: str = self._get(key, str, "a string")
        return value

    def name(self, key: str) -> str:
        """The string at `key`, which names a tensor: letters, digits and underscores."""
        value = self.text(key)
        if not value.isidentifier() or not value.isascii():
            raise self.error(key, "letters, digits and underscores are expected")
        return value

    def choice(self, key: str, choices: tuple[int, ...]) -> int:
        """The integer at `key`, one of `choices`."""
        value = self.integer(key)
        if value not in choices:
            raise self.error(key, f"one of {', '.join(map(str, choices))} is expected")
        return value

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """The boolean at `key`; `default` where there is no such field and a default."""
        if default is not None and key not in self.mapping:
            return default
        value: bool = self._get(key, bool, "true or false")
        return value

    def integer(self, key: str, least: int = 1, most: int | None = None) -> int:
        """The integer at `key`, from `least` to `most`."""
        value: int = self._get(key, int, "an integer")
        if value < least:
            raise self.error(key, f"at least {least} is expected")
        if most is not None and value > most:
            raise self.error(key, f"at most {most} is expected")
        return value

    def optional_text(self, key: str) -> str | None:
        """The string at `key`; None where it is null or missing."""
        return None if self.mapping.get(key) is None else self.text(key)

    def optional_integer(self, key: str, most: int | None = None) -> int | None:
        """The positive integer at `key`, at most `most`; None where it is null or missing."""
        return None if self.mapping.get(key) is None else self.integer(key, most=most)

    def optional_positive(self, key: str) -> float | None:
        """The finite number above 0 at `key`; None where it is null or missing."""
        value = self.mapping.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
            raise self.error(key, "a finite number above 0 is expected")
        return float(value)

    def ascending(self, key: str, last: int | None) -> tuple[int, ...]:
        """Two or more ascending positive integers that end with `last`; empty where there is no such field."""
        numbers = self.mapping.get(key)
        if numbers is None:
            return ()
        integers = isinstance(numbers, list) and len(numbers) > 1 and all(type(number) is int for number in numbers)
        if not integers or numbers != sorted(set(numbers)) or numbers[0] < 1 or numbers[-1] != last:
            raise self.error(key, "ascending integers that end with the largest capacity are expected")
        return tuple(numbers)


def _shown(value: Any) -> str:
    """A value for a message; Python refuses to write an integer of more than 4,300 digits."""
    try:
        return repr(value)
    except ValueError:
        return "a number of thousands of digits"
