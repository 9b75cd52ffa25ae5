"""`runtime/web/src/contract.ts` is what the Python contract says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "runtime" / "web"


def test_the_contract_in_typescript_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate_contract", PACKAGE / "generate_contract.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PATH == PACKAGE / "src" / "contract.ts"
    written = module.PATH.read_text(encoding="utf-8")
    assert written == module.typescript(), "the contract changed: run `make generate`"
