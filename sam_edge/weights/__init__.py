"""Weights: which ones there are, where they are kept, how they arrive, and how they enter a model.

| file | what |
|---|---|
| `catalogue` | the official releases: address, size, sha256, licence, parameters |
| `cache` | the folder where downloaded weights are kept |
| `transfer` | one file over HTTP, going on where the last attempt ended |
| `download` | a release, checked against its sha256 and moved into the cache |
| `source` | what `--checkpoint` says: a file, or `random:SEED` |
| `seeded` | numbers for a tensor from its name, shape and a seed |
| `state_file` | a weights file -> named tensors, without running anything the file asks for |
| `fit` | whether those tensors are the model's |
| `mobilenet` | ImageNet weights for nano's encoder, out of a TFLite file |
| `wording` | names from such a file, made fit for one line |
| `checkpoint` | a source -> a loaded model and a record of what was loaded |

Nothing is imported here: `seeded`, `state_file`, `fit` and `checkpoint` bring torch, and listing the releases must not.
"""
