"""The stages of a data engine ("Segment Anything", https://arxiv.org/abs/2304.02643, section 4)."""

from __future__ import annotations

MANUAL, SEMI_AUTOMATIC, AUTOMATIC = STAGES = ("manual", "semi-automatic", "automatic")
