"""Figures that "Segment Anything" (Kirillov et al., arXiv 2304.02643) publishes, to set beside a run's own.

They are of other models, other weights and other data than a run measures, so each names its own, and none is ever
mixed into a mean. SAM is its ViT-H, trained on SA-1B and measured without having seen the data ("zero-shot"); ViTDet-H
was trained on the data that it is measured on, and its boxes are SAM's prompts for instance segmentation.
"""

from __future__ import annotations

from dataclasses import dataclass

from sam_edge.evaluation.job import CLICKS, EDGES, INSTANCES, PROPOSALS

PAPER = "arXiv 2304.02643"
SAM, VITDET = "SAM ViT-H, SA-1B", "ViTDet-H, supervised"


@dataclass(frozen=True)
class Reference:
    """A published column.

    Attributes:
        model: the model and what it was trained on.
        data: what it was measured on.
        source: the table or figure.
        cells: figures by the names of the rows of our tables.
    """

    model: str
    data: str
    source: str
    cells: dict[str, str]


def _row(prefix: str, names: tuple[str, ...], values: str) -> dict[str, str]:
    return dict(zip((prefix + name for name in names), values.split(), strict=True))


_MASK_AR = "mask AR@1000, "
_AP = ("AP", "AP small", "AP medium", "AP large")
_AR = ("all", "small", "medium", "large", "frequent", "common", "rare")
_EDGES = ("ODS (threshold)", "OIS", "AP", "R50")
_TABLE3, _TABLE4, _TABLE5 = (f"{PAPER}, table {number}" for number in (3, 4, 5))
REFERENCES: dict[str, tuple[Reference, ...]] = {
    EDGES: (
        Reference(SAM, "BSDS500 test", _TABLE3, _row("", _EDGES, "0.768 0.786 0.794 0.928")),
        Reference("HED, supervised", "BSDS500 test", _TABLE3, _row("", _EDGES, "0.788 0.808 0.840 0.923")),
        Reference("EDETR, supervised", "BSDS500 test", _TABLE3, _row("", _EDGES, "0.840 0.858 0.896 0.930")),
        Reference("Canny", "BSDS500 test", _TABLE3, _row("", _EDGES, "0.600 0.640 0.580 -")),
    ),
    PROPOSALS: (
        Reference(SAM, "LVIS v1 val", _TABLE4, _row(_MASK_AR, _AR, "59.3 45.5 81.6 86.9 59.1 63.9 65.8")),
        Reference(
            "SAM single output",
            "LVIS v1 val",
            _TABLE4,
            _row(_MASK_AR, _AR, "54.9 42.8 76.7 74.4 54.7 59.8 62.0"),
        ),
        Reference(VITDET, "LVIS v1 val", _TABLE4, _row(_MASK_AR, _AR, "63.0 51.7 80.8 87.0 63.1 63.3 58.3")),
    ),
    INSTANCES: (
        Reference(f"{SAM}, boxes of ViTDet-H", "COCO val 2017", _TABLE5, _row("mask ", _AP, "46.5 30.8 51.0 61.7")),
        Reference(VITDET, "COCO val 2017", _TABLE5, _row("mask ", _AP, "51.0 32.0 54.3 68.9")),
        Reference(f"{SAM}, boxes of ViTDet-H", "LVIS v1 val", _TABLE5, _row("mask ", _AP, "44.7 32.5 57.6 65.5")),
        Reference(VITDET, "LVIS v1 val", _TABLE5, _row("mask ", _AP, "46.6 35.0 58.0 66.3")),
    ),
}

# What the paper gives as differences, as plots, or of groups that no table of ours has.
REMARKS: dict[str, tuple[str, ...]] = {
    CLICKS: (
        f"One centre point, mIoU of {SAM} minus that of RITM, in points ({PAPER}, figure 9a): better on 16 of 23 "
        "data sets, from -21.4 (GTEA) to +46.9 (PPDLS); LVIS v0.5 +18.5, BBBC038v1 +44.7, ADE20K +7.8, Cityscapes "
        "-2.0. With the best of three masks (oracle) it is better on all 23.",
        f"People, mIoU at 1 and 3 random points with 95 % intervals, {SAM} on MIAP ({PAPER}, table 2): perceived "
        "gender presentation feminine 54.4 ± 1.7 and 90.4 ± 0.6, masculine 55.7 ± 1.7 and 90.1 ± 0.6; perceived age "
        "older 62.9 ± 6.7 and 92.6 ± 1.3, middle 54.5 ± 1.3 and 90.2 ± 0.5, young 54.2 ± 2.2 and 91.2 ± 0.7. Their "
        "clothing (table 6): feminine 76.3 ± 1.1 and 90.7 ± 0.5, masculine 81.0 ± 1.2 and 92.3 ± 0.4.",
    ),
}
