"""The model as the Neural Engine likes it: the same parameters, inputs and answers, another way to compute them.

`ane_rewrite` takes a graph and returns its twin, in which some modules stand for plain ones: what the plain module
holds, they hold, and their outputs are equal up to rounding (`tests/model/test_ane.py` has a test for each). The rules
are those of Apple's "Deploying Transformers on the Apple Neural Engine" (2022,
https://machinelearning.apple.com/research/neural-engine-transformers). Nothing is retrained, no checkpoint changes, and
the plain model remains the one that is trained, compared with the reference and exported to every other target.

The price: up to four times as many operations (ViT-B at 1024 pixels), each smaller. Whether that is faster on a Neural
Engine only a device can say, and none was at hand (docs/decisions/0006).
"""

from __future__ import annotations

from .rewrite import ane_rewrite

__all__ = ["ane_rewrite"]
