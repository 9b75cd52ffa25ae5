"""Agreement of a bundle with the fp32 model: metrics, bounds, and the acceptance test in every bundle."""
