"""The table of `install.py`."""

from __future__ import annotations

from .markdown import markdown, quartiles
from .results import Row


def install_table(installs: list[Row]) -> str:
    """What a fresh environment takes, and how long the runtime takes to import."""
    head = ("fresh environment", "MB", "compiled, MB", "torch", "`import sam_edge_runtime`, ms", "`pass`, ms")
    rows = [
        [
            f"`sam-edge[{each['extra']}]`",
            *(f"{each[what] / 1e6:.0f}" for what in ("bytes", "compiled_bytes")),
            "yes" if each["torch"] else "no",
            *(quartiles(each[what], digits=0) for what in ("import_ms", "pass_ms", "difference_ms")),
        ]
        for each in installs
    ]
    return markdown((*head, "difference, ms"), rows)
