"""A loop's table, plot and page; written anew after each round."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import sam_edge
from sam_edge.reporting.pages import empty_figure, render
from sam_edge_runtime.system.documents import json_text
from sam_edge_runtime.system.files import write_file

from .folder import FORMAT, VERSION
from .habits import PAGE

if TYPE_CHECKING:
    from .loop import Loop

REPORT, PAGE_FILE, PLOT = "report.json", "report.html", "loop.png"
TEMPLATE = Path(__file__).parent / "report.html.j2"
COLUMNS = ("round", "stage", "photos", "drawn", "found", "repeated", "s a mask", "masks a photo", "masks a min")


def write_report(out: Path, loop: Loop, rounds: Sequence[dict[str, Any]]) -> None:
    """Write `report.json`, `report.html` and `loop.png` to the loop's folder.

    Args:
        out: the folder.
        loop: the loop.
        rounds: the start and the finished rounds.
    """
    plot = draw(rounds)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "made_with": sam_edge.__version__,
        "loop": loop.to_json(),
        "rounds": list(rounds),
    }
    columns, rows = table(rounds)
    page = render(
        TEMPLATE,
        loop=loop,
        people=loop.annotator.kind == PAGE,
        columns=columns,
        rows=rows,
        plot=base64.b64encode(plot).decode(),
        duplicates=[pair for each in rounds for pair in each.get("duplicates", {}).items()],
        left_out=[pair for each in rounds for pair in each.get("left_out", {}).items()],
    )
    for name, content in ((REPORT, json_text(document).encode()), (PAGE_FILE, page.encode()), (PLOT, plot)):
        write_file(out / name, content, overwrite=True)


def table(rounds: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The columns' names and the rows: the start and each round, at least one of them."""
    most = len(clicks(rounds[0]))
    measured = ["box mIoU", *(f"{number} click{'s' if number > 1 else ''}" for number in range(1, most + 1))]
    return [*COLUMNS, *measured], [_row(each) for each in rounds]


def _row(each: dict[str, Any]) -> list[str]:
    work = each.get("work")
    done = [""] * 7
    if work is not None:
        counts = [str(work[name]) for name in ("photos", "drawn", "found", "repeated")]
        done = [*counts, *(_number(work[name]) for name in ("seconds_a_mask", "masks_a_photo", "masks_a_minute"))]
    return [str(each["round"]), each["stage"], *done, f"{box(each):.3f}", *(f"{value:.3f}" for value in clicks(each))]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def box(each: dict[str, Any]) -> float:
    """A round's mIoU of boxes: the mean over the validation sources."""
    return fmean(measured["box"] for measured in each["evaluation"])


def clicks(each: dict[str, Any]) -> list[float]:
    """A round's mIoU after 1, 2, .. clicks, likewise."""
    return [fmean(values) for values in zip(*(measured["clicks"] for measured in each["evaluation"]), strict=True)]


def errors(rounds: Sequence[dict[str, Any]], click: int | None = None) -> list[float]:
    """Each round's standard error, by photo, of the mIoU of boxes, or of that after `click` + 1 clicks."""
    return [
        math.hypot(*(one["box_error"] if click is None else one["click_errors"][click] for one in each["evaluation"]))
        / len(each["evaluation"])
        for each in rounds
    ]


def draw(rounds: Sequence[dict[str, Any]]) -> bytes:
    """A PNG file: masks a minute, masks a photo and mIoU with its standard errors against the rounds.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = empty_figure(11, 3.2, 110)
    left, middle, right = figure.subplots(1, 3)
    worked = [each for each in rounds if "work" in each]
    numbers = [each["round"] for each in worked]
    for axes, name, title in (
        (left, "masks_a_minute", "masks a minute"),
        (middle, "masks_a_photo", "masks a photo"),
    ):
        values = [float("nan") if each["work"][name] is None else each["work"][name] for each in worked]
        axes.plot(numbers, values, "o-")
        axes.set_title(title)
        if name == "masks_a_minute" and values and max(values) > 20 * min(values) > 0:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
    measured = [each["round"] for each in rounds]
    right.errorbar(measured, [box(each) for each in rounds], errors(rounds), fmt="s-", capsize=3, label="box")
    most = len(clicks(rounds[0]))
    for number in sorted({0, most - 1}):
        name = f"{number + 1} click{'s' if number else ''}"
        values = [clicks(each)[number] for each in rounds]
        right.errorbar(measured, values, errors(rounds, number), fmt="o-", capsize=3, label=name)
    right.set_title("mIoU on validation data")
    right.legend()
    for axes in (left, middle, right):
        axes.set_xticks(measured, [f"{each['round']}\n{each['stage']}" for each in rounds], fontsize=7)
        axes.grid(visible=True, alpha=0.3)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
