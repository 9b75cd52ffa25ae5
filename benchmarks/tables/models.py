"""Tables of `models.py`."""

from __future__ import annotations

from urllib.parse import urlsplit

from sam_edge.weights.catalogue import RELEASES, SHIPPED, SOURCE_FOLDER

from .markdown import markdown, milliseconds
from .peers import OURS
from .results import Row


def models_table(rows: list[Row]) -> str:
    """Size, licence and origin of every model's weights."""
    head = ("model", "family", "parameters, M", "file, MB", "licence", "from")
    cells = []
    for row in rows:
        variant = row["variant"]
        if variant in SHIPPED:
            shipped = SHIPPED[variant]
            about = [shipped.family, f"{shipped.path.stat().st_size / 1e6:,.0f}", shipped.licence, "in the package"]
        elif variant in RELEASES:
            release = RELEASES[variant]
            about = [release.family, f"{release.about_bytes / 1e6:,.0f}", release.licence]
            address = f"[{urlsplit(release.url).hostname}]({release.url})"
            about.append(address if release.url else f"`{SOURCE_FOLDER.name}/{release.file}`")
        else:  # pruned ViT-Bs, whose files are as different as their makers
            about = ["SlimSAM", "", "its file's", "your file"]
        cells.append([f"`{variant}`", about[0], f"{row['parameters'] / 1e6:,.1f}", *about[1:]])
    return markdown(head, cells)


def models_cost_table(rows: list[Row], measured: dict[str, Row]) -> str:
    """Multiplications of every model, and median ms of its ONNX bundle where a machine measured it.

    Args:
        rows: of `results/models.json`.
        measured: by the machine's name, a document of `peers.py`.
    """
    head = ["model", "side", "encoder, GMAC", "click, GMAC"]
    head += [f"{step}, ms, {name}" for name in measured for step in ("encoder", "click")]
    cells = []
    for row in rows:
        line = [f"`{row['variant']}`", row["side"], f"{row['encoder'] / 1e9:,.1f}", f"{row['click'] / 1e9:,.2f}"]
        for document in measured.values():
            found = document["variants"].get(row["variant"], {"rows": []})["rows"]
            steps = next((each["steps"] for each in found if each["kind"] == OURS and "steps" in each), None)
            for step in ("encode", "click"):
                line.append("" if steps is None else milliseconds(steps[step]["p50"]))
        cells.append(line)
    return markdown(head, cells)
