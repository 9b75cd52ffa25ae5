"""Tables of `web.py`."""

from __future__ import annotations

from .markdown import bold, markdown, quartiles
from .results import Row

# Aims in the browser: shares of the native times with as many threads, and what a person meets on the served page.
WEB_AIMS = {"encode": 3.0, "click": 2.5}
FIRST_MASK_AIM, HOVER_AIM, PAGE_AIM = 4.0, 20.0, 300e3  # seconds, masks a second, bytes compressed


def web_table(rows: list[Row]) -> str:
    """Chromium beside native ONNX Runtime with nano: median ms with quartiles, and ratios within a round."""
    head = ["nano", "threads"]
    for step, name in (("encode", "encoder"), ("click", "click")):
        head += [f"{name} ms: browser", "native", f"browser / native, aim {WEB_AIMS[step]:.1f}"]
    cells = []
    for row in rows:
        line = [row["precision"], row["threads"]]
        for step, aim in WEB_AIMS.items():
            line += [quartiles(row[step][where], 1e3, 1) for where in ("browser", "native")]
            line.append(bold(quartiles(row[step]["ratio"]), round(row[step]["ratio"]["p50"], 2) <= aim))
        cells.append([*line, quartiles(row["photo"]["ratio"])])
    return markdown((*head, "photo to mask, browser / native"), cells)


def web_page_table(page: Row) -> str:
    """What a person meets on the page of `sam-edge serve`, beside the aims; what was missed is bold."""
    cells: list[list[object]] = []
    for photo in page["photos"]:
        size, mask, hover = f"{photo['width']} x {photo['height']}", photo["cold"]["mask"], photo["hover"]
        cells += [
            [
                f"first mask, photo of {size}, s",
                f"{FIRST_MASK_AIM:g}",
                bold(quartiles(mask), round(mask["p50"], 2) <= FIRST_MASK_AIM),
            ],
            ["the same on the next visit, s", "", quartiles(photo["again"]["mask"])],
            [
                "masks a second under a moving pointer",
                f"{HOVER_AIM:g}",
                bold(quartiles(hover, digits=1), round(hover["p50"], 1) >= HOVER_AIM),
            ],
        ]
    engine = [row for row in page["wire"] if row["path"].endswith(".wasm")]
    bundle = [row for row in page["wire"] if row["path"].startswith("/bundles/")]
    code = [row for row in page["wire"] if row not in engine and row not in bundle and "/samples/" not in row["path"]]
    sent, packed = (sum(row[what] or row["bytes"] for row in code) for what in ("bytes", "gzip"))
    cells.append(
        [
            "page without the engine's WASM, kB (with gzip)",
            f"{PAGE_AIM / 1e3:g}",
            bold(f"{sent / 1e3:.0f} ({packed / 1e3:.0f})", packed <= PAGE_AIM),
        ]
    )
    smallest = min(page["engines"], key=lambda name: page["engines"][name])
    for row in engine:
        # Vite's names have a hash of the content.
        name = row["path"].rsplit("/", 1)[-1].rpartition("-")[0] + ".wasm"
        what = f"engine's WASM, {name.removesuffix('.wasm')}, MB (with gzip)"
        cells.append(
            [what, "smallest build", bold(f"{row['bytes'] / 1e6:.1f} ({row['gzip'] / 1e6:.1f})", name == smallest)]
        )
    cells.append(["nano's bundle in fp32, MB", "", f"{sum(row['bytes'] for row in bundle) / 1e6:.1f}"])
    return markdown(("", "aim", "measured"), cells)
