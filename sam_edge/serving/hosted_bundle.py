"""Bundles as the page gets them: a name for the address, the files that their manifests vouch for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sam_edge.annotation.record import distinct_names
from sam_edge_runtime.bundle.bundle import GOLDEN_FILE, REPORT_FILE, SEARCH_PLOT, Bundle
from sam_edge_runtime.bundle.document import FILE_NAME
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.bundle.text import VOCABULARY
from sam_edge_runtime.errors import BundleError, UsageError
from sam_edge_runtime.system.files import sha256_of

from .files import ServedFile

BROWSER, SERVER = ENGINES = ("browser", "server")
_IN_BROWSERS = ("onnx",)  # targets that the page's runtime takes
_MAY_BE_EDITED = frozenset({GOLDEN_FILE, REPORT_FILE, SEARCH_PLOT})
_NOT_IN_ADDRESSES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class HostedBundle:
    """A bundle under a name.

    Attributes:
        name: in addresses: letters, digits, `.`, `_` and `-`.
        title: for people: the folder's name.
        bundle: the checked bundle.
        files: its manifest and what that names, by POSIX path.
        engines: where it can run, of `ENGINES`.
    """

    name: str
    title: str
    bundle: Bundle
    files: dict[str, ServedFile]
    engines: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """What the page is told of it."""
        manifest = self.bundle.manifest
        return {
            "name": self.name,
            "title": self.title,
            "url": f"bundles/{self.name}/",
            "variant": manifest.variant,
            "target": manifest.target,
            "precision": manifest.precision,
            "input_side": manifest.input_side,
            "bytes": self.bundle.size,
            "random_weights": manifest.checkpoint.random,
            "engines": list(self.engines),
            "words": self.words,
        }

    @property
    def words(self) -> list[str]:
        """Names that the bundle knows; none where it takes no words."""
        part = self.bundle.manifest.text
        return [] if part is None or part.kind != VOCABULARY else list(self.bundle.vocabulary().names)


def host_bundles(paths: Sequence[Path]) -> tuple[HostedBundle, ...]:
    """Open bundles and check all their hashes.

    Raises:
        BundleError: one is no sound bundle, or runs neither in a browser nor here.
    """
    bundles = [Bundle.open(path) for path in paths]
    places = [path.resolve() for path in paths]
    titles = [place.stem if place.is_file() else place.name for place in places]
    plain = [_NOT_IN_ADDRESSES.sub("-", title).strip(".-") or "bundle" for title in titles]
    return tuple(
        HostedBundle(name, title, bundle, _files_of(bundle), _engines_of(bundle))
        for name, title, bundle in zip(distinct_names(plain), titles, bundles, strict=True)
    )


def choose_engine(bundles: Sequence[HostedBundle], wanted: str) -> str:
    """The engine that the page begins with: the wanted one.

    Raises:
        UsageError: there is no such engine, or the first bundle does not run on it.
    """
    if wanted not in ENGINES:
        raise UsageError(f"no engine called {wanted!r:.60}: choose one of {', '.join(ENGINES)}")
    first = bundles[0]
    if wanted not in first.engines:
        target = TARGETS[first.bundle.manifest.target]
        remedy = f"add --engine {SERVER}" if wanted == BROWSER else target.install
        raise UsageError(f"the bundle {first.title} for {target.title} does not run with --engine {wanted}: {remedy}")
    return wanted


def _files_of(bundle: Bundle) -> dict[str, ServedFile]:
    files = {FILE_NAME: ServedFile.of(bundle.root / FILE_NAME)}
    for name, record in bundle.manifest.files.items():
        path = bundle.root / name
        if name in _MAY_BE_EDITED and not (path.is_file() and sha256_of(path) == record.sha256):
            continue  # a bundle opens without it, and the manifest does not vouch for what lies there
        files[name] = ServedFile(path.resolve(), record.sha256)
    return files


def _engines_of(bundle: Bundle) -> tuple[str, ...]:
    target = TARGETS[bundle.manifest.target]
    here = any(_is_installed(engine.module) for engine in target.engines)
    engines = ((BROWSER,) if target.name in _IN_BROWSERS else ()) + ((SERVER,) if here else ())
    if not engines:
        raise BundleError(f"{bundle.root} runs in no browser, and its engine is not installed here: {target.install}")
    return engines


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
