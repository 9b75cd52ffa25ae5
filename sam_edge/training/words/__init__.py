"""Training of words for a model that stays as it is: vectors, and the layers that draw words' maps.

| file | what |
|---|---|
| `recipe` | what decides what is learned, in a TOML file |
| `encoded` | photos as the frozen encoder sees them, stored once |
| `start` | weights by least squares, from which gradient descent starts |
| `objective` | the losses of maps and presence |
| `calibrate` | the threshold of each word |
| `train` | the run: steps, checkpoints, the file of words |
"""
