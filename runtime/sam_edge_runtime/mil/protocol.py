"""Core ML's protocol buffers, out of coremltools without coremltools.

Importing that package imports torch where there is one, and takes seconds; the generated modules in its `proto` folder
need protobuf only. They are loaded under a name of their own. protobuf knows a message by its descriptor, so these are
the same classes that coremltools has if it is imported as well.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from sam_edge_runtime.errors import BackendError

_NAME = "_sam_edge_coreml_proto"


def empty_model() -> Any:
    """A `Model` message to read a package's file into.

    Raises:
        BackendError: coremltools is not installed.
    """
    try:
        if _NAME not in sys.modules:
            found = find_spec("coremltools")  # of a package at the top, this runs nothing
            if found is None or not found.submodule_search_locations:
                raise ImportError("No module named 'coremltools'")
            folder = Path(found.submodule_search_locations[0]) / "proto"
            spec = spec_from_file_location(_NAME, folder / "__init__.py", submodule_search_locations=[str(folder)])
            if spec is None or spec.loader is None:
                raise ImportError(f"{folder} is no package")
            module = module_from_spec(spec)
            sys.modules[_NAME] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[_NAME]
                raise
        return import_module(f"{_NAME}.Model_pb2").Model()
    except (ImportError, OSError) as error:
        raise BackendError(
            f'a Core ML bundle needs coremltools ({error}); install it with: pip install "sam-edge[coreml]"'
        ) from error
