"""The data engine: rounds of annotation and training (arXiv 2304.02643, section 4).

| file | what |
|---|---|
| `loop` | the loop as a TOML file |
| `stages` | manual, semi-automatic, automatic |
| `habits` | how the simulated annotator works, and how long that takes |
| `run` | `sam-edge engine run`: rounds, steps and resumption |
| `folder` | the files of a loop and of its rounds |
| `queue` | a round's photos: taken from the source, made smaller, duplicates left out |
| `annotator` | the simulated annotator |
| `client` | requests to the annotation server |
| `work` | figures of a round's masks: seconds a mask, masks a photo, masks a minute |
| `status` | how far a loop is |
| `report` | table, plot and page |
"""
