"""Whether neural-compressor can be used here, and its import."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.system.quiet import no_logging

OLDEST_PYTHON = (3, 11)


def require_package(option: str) -> None:
    """Refuse an option that needs neural-compressor where it is not installed.

    Args:
        option: as the user gave it.

    Raises:
        UsageError: it is not installed, or not for this Python.
    """
    if find_spec("neural_compressor") is not None and find_spec("torchao") is not None:
        return
    if sys.version_info < OLDEST_PYTHON:
        raise UsageError(f"{option} needs neural-compressor, which needs Python 3.11: use that, or omit {option}")
    raise UsageError(f"{option} needs neural-compressor: pip install 'sam-edge[neural-compressor]'")


def package_version() -> str:
    """The installed version."""
    return version("neural-compressor")


@contextmanager
def silenced() -> Iterator[None]:
    """Keep the package's log, and its warnings about accelerators that are not there, off the terminal."""
    with no_logging(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
