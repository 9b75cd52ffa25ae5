"""sam-edge: Segment Anything on phones, browsers and boards, with proof that the masks are still right.

This room holds what needs torch (the models, their weights, verification against them) and the command line.
Importing it loads nothing heavy; each command imports what it uses.
"""

from __future__ import annotations

__version__ = "0.2.0.dev0"
