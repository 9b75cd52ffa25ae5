"""How long a bundle takes on this machine, and how much memory: numpy, Pillow and the target's engine, no torch.

`host.measure` is the whole: one fresh process a bundle, by turns. `python -m sam_edge_runtime.benchmark` is the same
from a shell, which is how it runs on boards that have nothing but this package and a bundle.
"""
