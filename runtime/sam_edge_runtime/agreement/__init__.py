"""How well a bundle agrees with the fp32 model: metrics, bounds, and the golden test that every bundle carries."""
