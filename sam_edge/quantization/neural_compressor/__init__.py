"""Intel's neural-compressor at work: a second driver of the search, and two methods that round weights.

| file | what |
|---|---|
| `package` | whether the package can be used here, and how it is imported |
| `tuner` | its `autotune` proposes mixed-precision configurations |
| `rounding` | its round-to-nearest and GPTQ round the weights of linear layers |

The package is an extra (`pip install 'sam-edge[neural-compressor]'`). Only `tuner` and `rounding` import it.
"""
