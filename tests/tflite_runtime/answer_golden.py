"""Run by tflite-runtime's own environment: bundles named in the arguments answer their golden tests.

Writes a line of JSON for each: what computed, and the figures; or the error, which must be one of ours.
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
        answers = golden.Golden.load(bundle.golden_path, bundle.manifest)
        agreement = golden.check(answers, backend, bundle.manifest)
        print(json.dumps({"engine": backend.engine, **agreement.summary()}), flush=True)
    except SamEdgeError as error:
        print(json.dumps({"error": str(error)}), flush=True)
if "torch" in sys.modules:
    sys.exit("torch was imported")
