"""Runs the acceptance tests of bundles, given as arguments, in the environment of another engine.

Prints a line of JSON for each: engine and figures, or a `SamEdgeError`.
"""

from __future__ import annotations

import json
import sys

from sam_edge_runtime import Bundle, SamEdgeError
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.backends import load_backend

for root in sys.argv[1:]:
    bundle = Bundle.open(root, check_hashes=False)
    try:
        backend = load_backend(bundle)
        test = golden.Golden.load(bundle.golden_path, bundle.manifest)
        agreement = golden.check(test, backend, bundle.manifest)
        print(json.dumps({"engine": backend.engine, **agreement.summary()}), flush=True)
    except SamEdgeError as error:
        print(json.dumps({"error": str(error)}), flush=True)
if "torch" in sys.modules:
    sys.exit("torch was imported")
