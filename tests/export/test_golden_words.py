"""The words of a golden test have masks that rounding does not change."""

from __future__ import annotations

import numpy as np

from sam_edge.export.golden_words import stability


def test_masks_with_a_steep_edge_are_stable_and_tiny_ones_do_not_count():
    maps = np.full((4, 1, 20, 20), -10.0, np.float32)
    maps[0, 0, 5:15, 5:15] = 10.0  # a steep edge
    maps[1] = maps[0]
    maps[1, 0, 5:15, 15:20] = -0.2  # half as much again is nearly inside
    maps[2, 0, 0, 0] = 10.0  # one pixel
    maps[3] = 10.0  # everything
    np.testing.assert_allclose(stability(maps), [1.0, 100 / 150, 0.0, 0.0])
