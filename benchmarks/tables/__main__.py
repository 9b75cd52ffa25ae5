"""Fills the documents' tables, or prints some."""

from __future__ import annotations

import sys

from .documents import TABLES, documents, filled
from .results import ROOT


def main(names: list[str]) -> None:
    """Print the named tables, or fill all documents."""
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        sys.exit(f"no table called {unknown[0]!r}: choose one of {', '.join(TABLES)}")
    if names:
        print("\n\n".join(TABLES[name]() for name in names))
        return
    for path in documents():
        before = path.read_text("utf-8")
        try:
            after = filled(before)
        except ValueError as error:
            sys.exit(f"{path}: {error}")
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
