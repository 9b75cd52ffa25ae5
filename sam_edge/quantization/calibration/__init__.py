"""Calibration: the calls that show a quantizer which values activations take.

| file | what |
|---|---|
| `photos` | which photos of a folder or of shards are asked, and what a manifest says of them |
| `prompts` | prompts of every kind on a photo |
| `calls` | the calls of both graphs on these photos, one after another |

Nothing is imported here: `calls` brings torch's side of the project, and a usage message needs none of it.
"""
