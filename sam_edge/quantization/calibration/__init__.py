"""Calibration: calls on photos that show a quantizer the range of each activation.

| file | content |
|---|---|
| `photos` | the choice of photos from a folder or from shards, and its record in a manifest |
| `prompts` | prompts of every kind on a photo |
| `proposals` | masks that the fp32 model proposes on a photo without annotations |
| `calls` | the calls of both graphs on these photos |

Nothing is imported here: `calls` imports PyTorch's side of the project, which a usage error does not need.
"""
