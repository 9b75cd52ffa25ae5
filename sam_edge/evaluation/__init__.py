"""Evaluation: accuracy against masks that people drew.

| file | what |
|---|---|
| `job` | what `sam-edge evaluate` measures, and its result |
| `measure` | prompts for every mask of a data source, and the IoU of the model's masks |
| `baselines` | masks without a network: the box, an ellipse in it, GrabCut |
| `figures` | measurements to the figures of a table |
| `automatic` | automatic masks against human masks: average recall |
| `edges` | edges of automatic masks against BSDS500 |
| `report` | tables, `report.html`, curves and pictures |
| `evaluate` | runs a job and writes its report |

Agreement with fp32 torch is measured in `sam_edge.verification`.
"""
