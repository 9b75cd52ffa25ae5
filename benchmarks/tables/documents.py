"""The tables by their names, and the documents that show them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .automatic import automatic_table
from .clip_encoders import clip_encoders_table
from .distillation import distillation_table
from .exports import all_exports, coverage_table, exports_table
from .frame_masks import frame_masks_table
from .install import install_table
from .int8 import int8_aims_table, int8_short_table, int8_table
from .int8_peers import int8_peers_table
from .models import models_cost_table, models_table
from .nano_trials import nano_trials_table
from .parity import parity_table
from .peers import FRAME_AIMS, SAM_2_AIMS, frames_table, peer_aims_table, peers_table
from .qnn_htp import qnn_table
from .results import ROOT, read
from .scaling import peak_line, scaling_table
from .web import web_page_table, web_table

TABLES: dict[str, Callable[[], str]] = {
    "coverage": lambda: coverage_table(all_exports(), read("int8")["bundles"]),
    "exports": lambda: exports_table(all_exports()),
    **{
        f"peers-{variant}": partial(lambda name: peers_table(read("peers")["variants"][name]["rows"]), variant)
        for variant in ("nano", "tiny_vit", "vit_b")
    },
    **{
        f"peers-{variant}": partial(lambda name: peers_table(read("peers_zen4")["variants"][name]["rows"]), variant)
        for variant in ("sam2.1_hiera_tiny", "edgetam")
    },
    **{
        f"frames-{variant}": partial(lambda name: frames_table(read("frames")["variants"][name]["rows"]), variant)
        for variant in ("nano", "tiny_vit", "vit_b")
    },
    "frames-aims": lambda: peer_aims_table({"Zen 4": read("frames"), "Zen 3": read("frames_avx2")}, FRAME_AIMS),
    "sam2-aims": lambda: peer_aims_table({"Zen 4": read("peers_zen4"), "Zen 3": read("peers_avx2")}, SAM_2_AIMS),
    "frame-masks": lambda: frame_masks_table(read("frame_masks")["rows"]),
    "peers-aims": lambda: peer_aims_table({"Zen 5": read("peers"), "Zen 3": read("peers_avx2")}),
    "int8": lambda: int8_table(read("int8")["bundles"]),
    "int8-avx2": lambda: int8_short_table(read("int8_avx2")["bundles"]),
    "int8-aims": lambda: int8_aims_table(read("int8")["bundles"]),
    "int8-peers": lambda: int8_peers_table(read("int8_peers")["rows"]),
    "int8-peers-avx2": lambda: int8_peers_table(read("int8_peers_avx2")["rows"]),
    "qnn-htp": lambda: qnn_table(read("qnn_htp")["bundles"]),
    "scaling-peak": lambda: peak_line(read("scaling")),
    "scaling-encoder": lambda: scaling_table(read("scaling"), "encoder"),
    "scaling-decoder": lambda: scaling_table(read("scaling"), "decoder"),
    "scaling-encoder-one-thread": lambda: scaling_table(read("scaling"), "encoder", 1),
    "scaling-decoder-one-thread": lambda: scaling_table(read("scaling"), "decoder", 1),
    "models": lambda: models_table(read("models")["models"]),
    "models-cost": lambda: models_cost_table(
        read("models")["models"], {"Zen 5": read("peers"), "Zen 3": read("peers_avx2")}
    ),
    "parity": lambda: parity_table(read("parity")["models"]),
    "install": lambda: install_table(read("install")["installs"]),
    "automatic": lambda: automatic_table(read("automatic")["runs"]),
    "web": lambda: web_table(read("web")["rows"]),
    "web-page": lambda: web_page_table(read("web")["page"]),
    "clip-encoders": lambda: clip_encoders_table(read("clip_encoders")["rows"]),
    "nano-trials": lambda: nano_trials_table(read("nano_trials")["trials"]),
    "distillation": lambda: distillation_table(read("distillation_nano_teacher")["rows"]),
}
_MARKED = re.compile(r"(<!-- table: (?P<name>[^ ]*) -->\n)(?P<table>.*?)(<!-- end -->)", re.DOTALL)


def documents() -> list[Path]:
    """README.md, every page of docs/, and nano's model card, which a page includes."""
    card = ROOT / "sam_edge" / "weights" / "shipped" / "nano.md"
    return [ROOT / "README.md", card, *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """A document with every marked table made anew.

    Raises:
        ValueError: a table that does not exist, or a marker without its end.
    """
    if text.count("<!-- table: ") != len(_MARKED.findall(text)):
        raise ValueError("a marker <!-- table: NAME --> without its <!-- end -->")

    def table(match: re.Match[str]) -> str:
        if match["name"] not in TABLES:
            raise ValueError(f"no table called {match['name']!r}: choose one of {', '.join(TABLES)}")
        return f"{match[1]}\n{TABLES[match['name']]()}\n\n{match[4]}"

    return _MARKED.sub(table, text)
