"""Weights: the official releases, their download and cache, and how a weights file is read and loaded into a model.

| file | what |
|---|---|
| `catalogue` | the official releases (URL, size, sha256, licence, parameters) and the weights inside the package |
| `cache` | the folder of downloaded weights |
| `transfer` | one resumable download over HTTP |
| `download` | a release, checked against its sha256 and moved into the cache |
| `source` | the argument of `--checkpoint`: a file, or `random:SEED` |
| `seeded` | random weights that depend on name, shape and seed alone |
| `state_file` | a weights file as named tensors, read without running its code |
| `packed` | INT8 weights with scales in a file |
| `fit` | checks that named tensors fit a model |
| `mobilenet` | ImageNet weights of nano's encoder from a TFLite file |
| `checkpoint` | loads a source into a model and records what was loaded |
| `load` | builds a model, loads its weights and sets its frame side |

This module imports nothing: most of these import torch, and listing the releases must not.
"""
