"""Data: annotated photos as SA-1B releases them, and photos alone.

| file | what |
|---|---|
| `sample` | a photo and its masks, which stay run-length encoded until somebody looks at them |
| `sa1b` | SA-1B's JSON record, parsed and checked; which of its masks are wanted |
| `tar_index` | where each record lies in a tar shard, so that any of them can be read alone |
| `shards` | a tar shard, or files in folders: records by number, or all of them in the order of the file |
| `sources` | what a path or pattern means: shards, pairs, photos, a list of photos; training and validation parts |
| `order` | which record comes when: a pure function of seed and number |
| `mixture` | several sources, drawn in given proportions |
| `skips` | records that cannot be used: skipped, counted, named, and too many of them are an error |
| `augment` | flips, large-scale jitter, crops, colour; or the plain frame of an evaluation |
| `stream` | training examples by number, and one pass over everything |

Nothing is imported here: `stream` brings torch and `shards` brings webdataset, and a usage message needs neither.
"""
