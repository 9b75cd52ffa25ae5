"""Data: photos with masks in SA-1B's layout, and photos without masks.

| file | what |
|---|---|
| `sample` | a photo and its masks, which stay run-length encoded until they are used |
| `sa1b` | SA-1B's JSON record, parsed and checked; a filter for its masks |
| `foreign` | JSON of other tools: converted to SA-1B's layout, or named |
| `instances`, `polygons`, `numbers` | JSON files about several photos, polygons, and numbers as tools write them |
| `orientation` | the frame that masks refer to; photo and masks turned upright |
| `pairs` | which photo and which JSON file belong together, by their names |
| `photo_files` | the photos of a folder |
| `tar_index` | offset and length of each record in a tar shard, for random access |
| `shards` | a tar shard, or files in folders: a record by number, or all records in order |
| `sources` | a path or pattern to shards, pairs, photos or a list of photos; training and validation parts |
| `order` | the record of each draw: a pure function of seed and number |
| `mixture` | several sources, drawn by weight |
| `skips` | records that cannot be used: skipped, counted and named; too many are an error |
| `augment` | flips, large-scale jitter, crops, colour; or the plain frame for evaluation |
| `stream` | training examples by number, and one pass over all records |
| `sample_photos` | photos of an installed package, for the demo and for calibration |

Nothing is imported here: `stream` imports torch and `shards` imports webdataset, which a usage message does not need.
"""
