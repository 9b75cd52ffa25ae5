"""The test page of the TypeScript package, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from .browser import build


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("site")
    build(made)
    return made
