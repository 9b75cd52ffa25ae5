"""Distillation: a smaller model, the student, learns from the outputs of a larger one, the teacher.

| file | what |
|---|---|
| `distill` | the command's function: runs the stages one after another |
| `encoder` | stage 1: the student's image encoder learns the teacher's embeddings (MobileSAM) |
| `embeddings` | the teacher's embeddings on disk, computed once, for stage 1 |
| `prompt` | stage 2: both decode the same prompts, with points where their masks differ (EdgeSAM) |
| `int8` | stage 4: a trained student learns to lose less in INT8 |
| `inherit` | the parts that a student can copy from its teacher |

Stage 3, human masks, is SAM's own training (`sam_edge.training`). In every stage, recipe phases with `fake_quant` train
for INT8.
"""
