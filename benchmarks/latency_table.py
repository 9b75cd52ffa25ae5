"""The README's latency table, from the JSON that `latency.py` wrote.

python benchmarks/latency_table.py benchmarks/results/latency_*.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROWS = {
    "encode": "image encoder",
    "decode": "mask decoder, one click",
    "postprocess": "mask to photo size",
    "click": "click on a set photo",
    "photo": "photo and first click",
}


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a row a step, a column an engine, median ms and quartiles."""
    engines = [engine for result in results for engine in result["engines"]]
    lines = ["| ms | " + " | ".join(engine["name"] for engine in engines) + " |", "|---|" + "---|" * len(engines)]
    for step, title in ROWS.items():
        spreads = [engine["seconds"][step] for engine in engines]
        cells = [f"{_ms(s['median'])} ({_ms(s['q25'])}-{_ms(s['q75'])})" for s in spreads]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}"


if __name__ == "__main__":
    print(table([json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]]))
