"""The command line: one module for each verb, which imports the packages it needs when it is called.

Exit codes: 0 success, 1 a bound was missed, 2 bad input or a result that cannot be written, 130 interrupted.
"""

from __future__ import annotations

from .app import main

__all__ = ["main"]
