"""Training as in "Segment Anything" (https://arxiv.org/abs/2304.02643, appendix A).

| file | what |
|---|---|
| `train` | the command's function: a recipe and data in, weights out |
| `recipe`, `recipes/` | the TOML recipe, and the recipes that come with sam-edge |
| `trainer` | the training loop and the run's folder |
| `objective` | the loss of a session of prompts on human masks |
| `text` | stage `text`: sessions that begin with CLIP's embedding of the mask |
| `losses` | focal, dice and IoU losses |
| `shared_detail` | nano's detail, unpacked once a photo |
| `batch`, `reading` | photos and masks as batches, read by worker processes |
| `optimization` | AdamW, the learning rate, the running average of the weights |
| `checkpoint`, `files` | the state of a run on disk; the names of its files |
| `interrupt`, `logs`, `pictures` | Ctrl-C, losses and curves, pictures of what is trained |
| `accelerator` | processes, devices and precision |
"""
