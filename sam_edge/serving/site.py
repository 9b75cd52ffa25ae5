"""`sam-edge site`: the page and bundles as a folder that any web server can give out.

A browser lets the engine have threads only where the server sends two headers. `_headers` states them for hosts that
read such a file (Netlify, Cloudflare Pages); elsewhere the page's service worker adds them.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sam_edge_runtime.bundle.manifest import FileRecord
from sam_edge_runtime.errors import BundleError, UsageError
from sam_edge_runtime.system.documents import json_text, read_json
from sam_edge_runtime.system.files import require_space, sha256_of
from sam_edge_runtime.system.folders import others_than, staged_folder

from .application import SESSION_FILE, session_document
from .guard import HEADERS
from .hosted_bundle import BROWSER, HostedBundle, host_bundles
from .page import HASHED, Page

FORMAT = "sam-edge-site"
LIST_FILE, HEADERS_FILE, NO_JEKYLL = "site.json", "_headers", ".nojekyll"
_OF_ONE_ORIGIN = frozenset({"X-Frame-Options"})  # repeats frame-ancestors


@dataclass(frozen=True)
class SiteResult:
    """A site that was written: its folder, the number of files and their bytes."""

    folder: Path
    files: int
    size: int


def write_site(bundles: Sequence[Path], out: Path, *, overwrite: bool, static: Path | None = None) -> SiteResult:
    """Write a static site.

    Args:
        bundles: folders of the bundles; the first is the default.
        out: folder of the site; it appears whole or not at all.
        overwrite: replace an earlier site.
        static: folder of the built page; None: that of this package.

    Raises:
        UsageError: the page is not built, or is in the way of one of the site's own files.
        BundleError: one is no sound bundle, or does not run in a browser.
        OutputError: the folder exists and may not be replaced, or cannot be written.
    """
    page, hosted = Page.open(static), host_bundles(bundles)
    for each in hosted:
        if BROWSER not in each.engines:
            raise BundleError(f"{each.bundle.root} does not run in a browser: export it with --target onnx")
    files = dict(page.files) | {
        f"bundles/{each.name}/{name}": file for each in hosted for name, file in each.files.items()
    }
    if taken := {SESSION_FILE, LIST_FILE, HEADERS_FILE, NO_JEKYLL} & files.keys():
        raise UsageError(f"the page has a file {min(taken)}, which is the site's own: build the page again")
    require_space(out, sum(file.path.stat().st_size for file in files.values()))
    with staged_folder(out, overwrite=overwrite, foreign=foreign_files) as folder:
        for name, file in files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.path, place)
        session = session_document([_described(each) for each in hosted], BROWSER, server=False)
        (folder / SESSION_FILE).write_text(json_text(session), encoding="utf-8")
        (folder / HEADERS_FILE).write_text(_headers(), encoding="utf-8")
        (folder / NO_JEKYLL).touch()
        records = _records(folder)
        listed = {"format": FORMAT, "files": {name: asdict(record) for name, record in records.items()}}
        (folder / LIST_FILE).write_text(json_text(listed), encoding="utf-8")
    return SiteResult(out, len(records) + 1, sum(record.bytes for record in records.values()))


def foreign_files(folder: Path) -> tuple[str, ...] | None:
    """What a new site would destroy in a folder: files that no site has, or that changed since; None for other folders.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        document = read_json(folder / LIST_FILE)
    except (OSError, ValueError):
        return None
    listed = document.get("files") if isinstance(document, dict) and document.get("format") == FORMAT else None
    if not isinstance(listed, dict):
        return None
    others = others_than(folder, lambda name: name == LIST_FILE or name in listed)
    changed = (name for name, record in listed.items() if _has_changed(folder, name, record))
    return others + tuple(changed)


def _has_changed(folder: Path, name: str, record: object) -> bool:
    path = folder / name
    if not path.is_file():
        return False
    return not isinstance(record, dict) or sha256_of(path) != record.get("sha256")


def _records(folder: Path) -> dict[str, FileRecord]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): FileRecord(sha256_of(path), path.stat().st_size) for path in paths}


def _described(hosted: HostedBundle) -> dict[str, Any]:
    return hosted.described() | {"engines": [BROWSER]}


def _headers() -> str:
    """`_headers`: a path, and indented below it what is sent with it."""
    everywhere = [f"  {name}: {value}" for name, value in HEADERS.items() if name not in _OF_ONE_ORIGIN]
    for_ever = [f"/{HASHED}*", "  Cache-Control: public, max-age=31536000, immutable"]
    return "\n".join(["/*", *everywhere, *for_ever]) + "\n"
