"""A Core ML package with a function for each frame, over one copy of the weights.

coremltools joins packages and stores equal weights once; functions need iOS 18 or macOS 15
(https://apple.github.io/coremltools/docs-guides/source/multifunction-models.html).
"""

from __future__ import annotations

from collections.abc import Sequence

import coremltools as ct

from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.mil.package import MAIN
from sam_edge_runtime.system.quiet import captured_stderr, no_logging, no_progress_bars, root_cause

from . import Part, joined_path


def join(parts: Sequence[Part]) -> None:
    """Write all parts to one package; each function has its part's name, and the first is the default.

    Raises:
        ExportError: coremltools fails.
    """
    path = joined_path(parts)
    described = ct.utils.MultiFunctionDescriptor()
    for part in parts:
        described.add_function(str(part.source), src_function_name=MAIN, target_function_name=part.name)
    described.default_function_name = parts[0].name
    try:
        with captured_stderr(), no_logging(), no_progress_bars():
            ct.utils.save_multifunction(described, str(path))
    except Exception as error:  # the converter's own errors have no common class
        raise ExportError(f"coremltools could not join the frames of {path.stem}: {root_cause(error)}") from error
