"""Masks for whole data sets, in SA-1B's format.

| file | what |
|---|---|
| `record` | automatic masks as SA-1B's JSON record |
| `pieces` | a source divided into output shards, and what of each is done already |
| `worker` | one process's pieces: photos in, records out |
| `annotate` | the command's work: processes, hosts, progress, resumption |
"""
