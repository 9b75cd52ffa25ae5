"""Graphs rewritten for Apple's Neural Engine: same parameters, inputs and outputs, other operations.

`ane_rewrite` copies an encoder or decoder graph and replaces its linear layers, normalizations and attentions with
modules that follow Apple's "Deploying Transformers on the Apple Neural Engine" (2022,
https://machinelearning.apple.com/research/neural-engine-transformers). That article reports that a transformer written
for this engine's memory layout and for small tensors runs faster and takes less memory there.

Outputs equal those of the plain graph up to rounding; `tests/model/test_ane.py` has a test for each replacement. The
replacements share the plain modules' parameters, so nothing is retrained and no checkpoint changes. The plain model
is the one that is trained, compared with the reference and exported to every other target.

The cost: up to four times as many operations (ViT-B at 1024 pixels), each smaller. Whether that is faster was not
measured, because no device with a Neural Engine was at hand (docs/decisions/0006-neural-engine.md).
"""

from __future__ import annotations

from .rewrite import ane_rewrite

__all__ = ["ane_rewrite"]
