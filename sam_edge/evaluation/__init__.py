"""Evaluation: accuracy against masks that people drew.

| file | what |
|---|---|
| `job` | what `sam-edge evaluate` measures, and its result |
| `measure` | prompts for every mask of a data source, and the IoU of the model's masks |
| `baselines` | masks without a network: the box, an ellipse in it, GrabCut |
| `figures` | measurements to the figures of a table |
| `automatic` | automatic masks against human masks: average recall |
| `edges` | edges of automatic masks against BSDS500 |
| `proposals` | object proposals: average recall |
| `instances` | masks from a detector's boxes: average precision |
| `text` | words |
| `against` | points for two models, and their difference |
| `groups` | points by group of photos or masks |
| `ground_truth`, `coco_categories`, `detections` | human masks and a detector's boxes in COCO's form |
| `average_precision` | pycocotools' figures, under COCO's and LVIS's rules |
| `paired` | confidence intervals by a bootstrap over photos |
| `sources` | data as the protocols read them |
| `run` | the protocols over models and data |
| `report`, `group_plot` | tables, `report.html`, curves and pictures |
| `evaluate` | runs a job and writes its report |

Agreement with fp32 torch is measured in `sam_edge.verification`.
"""
