"""Latency and memory of bundles on this machine, with numpy, Pillow and the target's engine; no torch.

`host.measure` runs every bundle in a fresh process of its own and interleaves their measurements.
`python -m sam_edge_runtime.benchmark` does the same from a shell, for boards that have only this package and a bundle.
"""
