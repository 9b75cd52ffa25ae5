"""Bundles on disk: manifest, tensor contract, targets, and the checks before a graph is loaded."""
