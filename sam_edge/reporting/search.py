"""The configurations that a search tried: a table, and a plot of time against what they lose.

Both come from the `search` section of a bundle's `report.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pages import empty_figure

# Times are relative to fp32's; `loss` is that of mIoU with human masks, with its confidence interval.
COLUMNS = ("blocks not in w8a8", "click", "encoder", "decoder", "mIoU with fp32", "with human", "loss", "")
_TIMES = ("click_time", "encoder_time", "decoder_time")


@dataclass(frozen=True)
class TriedRow:
    """One configuration of a search, formatted for people.

    Attributes:
        cells: one for each of `COLUMNS`.
        chosen: whether the search returned it.
    """

    cells: tuple[str, ...]
    chosen: bool


def search_of(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The search of a bundle's report; None where there was none, or where the report has another form."""
    quantization = report.get("quantization")
    search = quantization.get("search") if isinstance(quantization, Mapping) else None
    tried = search.get("tried") if isinstance(search, Mapping) else None
    if not isinstance(tried, list) or not all(_is_tried(each) for each in tried):
        return None
    return dict(search) if tried and isinstance(search, Mapping) else None


def _is_tried(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("changed"), dict):
        return False
    figures = {name: value for name, value in entry.items() if name != "changed"}
    return "mask_miou" in figures and all(isinstance(value, int | float) for value in figures.values())


def tried_rows(search: Mapping[str, Any]) -> list[TriedRow]:
    """A row for each configuration, in the order in which they were tried."""
    return [_row(each, search.get("chosen")) for each in search["tried"]]


def goal_sentence(search: Mapping[str, Any]) -> str:
    """What decided the search, in one line."""
    if "loss" not in search:
        return f"decided by mask mIoU with fp32, bound {search.get('bound')}"
    labelled = search.get("labelled")
    details = labelled if isinstance(labelled, Mapping) else {}
    what = "its interval" if search.get("decided_by") == "interval" else "the measured loss"
    sentence = (
        f"decided by human masks: {what} is at most {search['loss']} of mIoU; {details.get('prompts')} prompts on "
        f"{details.get('measured_photos')} photos of {details.get('data')}, on which fp32 has "
        f"{details.get('fp32_miou')}; interval at {details.get('confidence')}, by a bootstrap over photos"
    )
    left_out = details.get("left_out")
    calibrated = left_out.get("calibration_photos") if isinstance(left_out, Mapping) else 0
    return f"{sentence}; {calibrated} calibration photos left out" if calibrated else sentence


def described(changed: Mapping[str, Any]) -> str:
    """A configuration in words, such as `8 in w8, 1 in fp32`."""
    counts = Counter(map(str, changed.values()))
    return ", ".join(f"{counts[scheme]} in {scheme}" for scheme in sorted(counts, reverse=True)) or "none"


def _row(entry: Mapping[str, Any], chosen: object) -> TriedRow:
    figures = {name: value for name, value in entry.items() if name != "changed"}
    loss = ""
    if "human_loss" in figures:
        low, high = (figures.get(f"human_loss_{end}", float("nan")) for end in ("low", "high"))
        loss = f"{figures['human_loss']:.4f} ({low:.4f}..{high:.4f})"
    is_chosen = figures == chosen
    cells = (
        described(entry["changed"]),
        *(f"{figures[name]:.3f}" if name in figures else "" for name in _TIMES),
        f"{figures['mask_miou']:.4f}",
        f"{figures['human_miou']:.4f}" if "human_miou" in figures else "",
        loss,
        "chosen" if is_chosen else "",
    )
    return TriedRow(cells, is_chosen)


def draw_front(path: Path, search: Mapping[str, Any]) -> None:
    """Plot each configuration's time against its loss on human masks; a line joins those that none surpasses in both.

    Where no time was measured, the number of blocks in float stands in its place.

    Raises:
        ImportError: matplotlib is not installed.
    """
    tried: Sequence[Mapping[str, Any]] = search["tried"]
    timed = all("click_time" in each for each in tried)
    points = [
        (
            each["click_time"] if timed else float(len(each["changed"])),
            each["human_loss"],
            each["human_loss_low"],
            each["human_loss_high"],
        )
        for each in tried
    ]
    picture = empty_figure(6.4, 4.2, dpi=120)
    axes = picture.add_subplot()
    axes.grid(visible=True, alpha=0.3)
    for time, loss, low, high in points:
        axes.plot([time, time], [low, high], color="0.8", linewidth=1)
        axes.plot(time, loss, "o", color="C0", markersize=5)
    front = pareto_front([(time, loss) for time, loss, *_ in points])
    axes.plot(*zip(*front, strict=True), "-", color="C0", linewidth=1, label="not surpassed in both")
    for (time, loss, *_), each in zip(points, tried, strict=True):
        if {name: value for name, value in each.items() if name != "changed"} == search.get("chosen"):
            axes.plot(time, loss, "o", color="C3", markersize=8, label="chosen")
            break
    axes.axhline(search["loss"], color="C3", linestyle="--", linewidth=0.8, label=f"allowed: {search['loss']}")
    axes.set_xlabel("time of a click on a new photo / fp32" if timed else "blocks that are not in w8a8")
    axes.set_ylabel("loss of mIoU with human masks")
    axes.legend(fontsize=8)
    picture.savefig(path)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other one surpasses or equals in both numbers, ascending by the first; less is better."""
    front: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front
