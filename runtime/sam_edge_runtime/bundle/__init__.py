"""A bundle on disk: its manifest, the tensor contract of its graphs, and the checks before anything is loaded."""
