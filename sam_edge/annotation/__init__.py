"""Annotation: automatic masks for photos and data sets, in SA-1B's format.

| file | what |
|---|---|
| `record` | automatic masks as SA-1B's JSON record |
| `segment` | `sam-edge segment`: the masks of a photo or of a folder |
| `named` | masks ranked by words |
| `annotate` | `sam-edge annotate`: processes, hosts, progress, resumption |
| `pieces` | a source divided into output shards, and the progress of each |
| `processes` | work in several processes that tell what they have done |
| `short_side` | photos made smaller, as SA-1B's were |
| `duplicates` | near-duplicates of photos, and of masks in a photo |
| `worker` | annotates the pieces of one process |
"""
