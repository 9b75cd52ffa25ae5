"""Prompts.

| file | what |
|---|---|
| `parsing` | prompts as they are typed on a command line |
| `grid` | the fixed prompts of a verification |
| `simulation` | prompts simulated from target masks, for training |
| `clicks` | the next click of an attentive user, for evaluation |
| `mask_choice` | which of the four masks is trained, and which is fed back as prompt |
"""
