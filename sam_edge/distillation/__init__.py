"""Distillation: a smaller model learns from the answers of a bigger one.

| file | what |
|---|---|
| `embeddings` | the teacher's embeddings on disk, computed once |
| `encoder` | stage 1: the student's image encoder matches them (MobileSAM) |
| `prompt` | stage 2: both answer the same prompts, points fall where they disagree (EdgeSAM) |
| `inherit` | what a student can take over from its teacher unchanged |

Stage 3, human masks, is SAM's own training (`sam_edge.training`). Quantization-aware fine-tuning would be another
objective beside these: the trainer takes any.
"""
