"""Accuracy against human masks: how well prompts find the objects that people outlined.

| file | what |
|---|---|
| `measure` | prompts on every mask of a data source, and what the model answered |
| `baselines` | what one has without a network: the box, an ellipse in it, GrabCut |
| `figures` | measurements to the figures of a table |
| `report` | `report.json`, `report.html`, the curve and pictures to judge by |
| `evaluate` | the command's work: model or bundle, data, protocol, report |

Agreement with fp32 torch is another question; it has a room of its own, `sam_edge.verification`.
"""
