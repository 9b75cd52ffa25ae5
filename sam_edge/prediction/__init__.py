"""Prediction: a bundle or a torch model answers prompts; masks are ranked by words.

| file | what |
|---|---|
| `predict` | the command's function |
| `promptable` | what answers prompts: a bundle or a torch model |
| `calls`, `reference_cache` | recorded calls of the graphs, and fp32 torch's outputs for them |
| `crops` | square crops of a photo around its masks |
| `ranking` | masks compared with words |
| `clip_encoder` | CLIP's kin as the encoder of both |
| `artifacts` | runs one artifact of any target |
"""
