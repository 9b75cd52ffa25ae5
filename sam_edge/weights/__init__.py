"""Weights: the official releases, their download and cache, and how a weights file is read and loaded into a model.

| file | what |
|---|---|
| `catalogue` | the official releases (URL, size, sha256, licence, parameters) and the weights inside the package |
| `clip_catalogue` | the same for text encoders of CLIP's kin, and their tokenizers |
| `licences` | which licences restrict more than credit, and whether the user accepted one |
| `cache` | the folder of downloaded weights |
| `transfer` | one resumable download over HTTP |
| `download` | a release, checked against its sha256 and moved into the cache |
| `source` | the argument of `--checkpoint`: a file or folder, `hf:OWNER/NAME`, or `random:SEED` |
| `seeded` | random weights that depend on name, shape and seed alone |
| `hub` | files of a repository on the Hugging Face Hub, through its cache |
| `state_file` | what one file of weights holds, read without running its code |
| `torchscript` | the tensors in a TorchScript archive, read without its program |
| `packed` | INT8 weights with scales in a file |
| `contents` | what a checkpoint holds: a file, shards with an index, or an adapter with its base |
| `unwrapping` | the model's tensors in what a training script saved |
| `layouts` | names of tensors: official, and transformers' |
| `clip_layouts` | the same for text encoders: OpenAI's, TinyCLIP's and transformers' |
| `adapters` | LoRA adapters, merged into the layers that they adapt |
| `pruned_vit` | a ViT's widths, read off its tensors |
| `families` | the families of models: names and shapes that identify them |
| `recognition` | reads a checkpoint of any make, and says what it is |
| `conversion` | writes a checkpoint under the names of another layout |
| `fit` | checks that named tensors fit a model |
| `mobilenet` | ImageNet weights of nano's encoder from a TFLite file |
| `checkpoint` | loads a source into a model and records what was loaded |
| `clip_checkpoint` | recognizes and loads a text encoder |
| `load` | builds a model, loads its weights and sets its frame side |

This module imports nothing: most of these import torch, and listing the releases must not.
"""
