"""`python -m sam_edge`, which `accelerate launch -m sam_edge` needs."""

from __future__ import annotations

from .cli import main

main()
