"""Core ML's protocol buffers, loaded from coremltools without importing coremltools.

That import takes seconds and imports torch where it is installed. The generated modules in coremltools' `proto` folder
need protobuf alone, and are loaded here under a package name of their own. protobuf identifies a message by its
descriptor, so the classes equal coremltools' own if that is imported as well.
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
    """An empty `Model` message, to parse a package's model file into.

    Raises:
        BackendError: coremltools is not installed.
    """
    try:
        if _NAME not in sys.modules:
            installed = find_spec("coremltools")  # imports nothing, as the name has no dot
            if installed is None or not installed.submodule_search_locations:
                raise ImportError("No module named 'coremltools'")
            folder = Path(installed.submodule_search_locations[0]) / "proto"
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
