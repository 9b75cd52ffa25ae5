"""Data sets as a whole: described, compared and converted.

| file | what |
|---|---|
| `describe` | `sam-edge data describe`: pieces, processes, resumption |
| `mask_shapes` | areas, centres and convex hulls of a photo's masks, from their run lengths |
| `statistics` | histograms of photos and masks, which can be added |
| `survey` | the statistics of some records |
| `description` | the figures of a description, its table and its page |
| `plots` | its plots |
| `compare` | `sam-edge data compare`: two annotations of the same photos |
| `convert` | `sam-edge data convert`: a data set in another tool's format |
| `entries` | the records of a source as the writers take them |
| `writers` | a file for each format that is written |
"""
