"""The report: tables, plots, and pictures in which a person can check the figures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam_edge.data.sample import Sample
from sam_edge.prompting.clicks import first_click
from sam_edge.reporting.folders import AUTOMATIC_MASKS, CURVE, EXAMPLES, GROUPS, RECALL
from sam_edge.reporting.pages import empty_figure, render
from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.contract import FIRST_MULTIMASK, SINGLE_OUTPUT, Label
from sam_edge_runtime.decoding import Capacity, as_returned, decode_prompts
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.draw import draw_all_masks, draw_overlay
from sam_edge_runtime.photo.frame import fitting_frame
from sam_edge_runtime.photo.masks import upscale_binary
from sam_edge_runtime.prompts import build_prompts

from .against import against_table
from .automatic import RANKS, AutomaticFigures, automatic_rows
from .edges import edge_rows
from .figures import Figures, PromptFigures
from .groups import group_table
from .instances import instance_rows
from .job import Evaluation
from .measure import Masks, box_prompts, tight_box
from .proposals import proposal_rows
from .text import text_rows

TEMPLATE = "report.html.j2"
PANEL = 360  # pixels of a picture's longer side
SHOWN_MASKS = 3  # of a photo
EXAMPLES_SEED = 0
EXAMPLES_SHOW = "Human masks, drawn at random; masks from their boxes; masks from one click each"
AUTOMATIC_SHOW = "Human masks; automatic masks"


def rows(figures: Sequence[Figures]) -> list[tuple[str, list[str]]]:
    """The rows of the table of boxes and clicks: a name, and a cell for each of `figures`."""

    def row(name: str, value: Any) -> tuple[str, list[str]]:
        return name, [value(each) for each in figures]

    table = [
        row("photos / masks", lambda f: f"{f.photos} / {f.masks}"),
        row("box: single mask", lambda f: f"{f.box.single:.3f} ± {f.box.standard_error:.3f}"),
        row("box: model's choice of three", lambda f: f"{f.box.choice:.3f}"),
        row("box: best of three (oracle)", lambda f: f"{f.box.oracle:.3f}"),
        row("box: share above 0.75 / 0.90", lambda f: f"{f.box.good:.0%} / {f.box.very_good:.0%}"),
        row(
            "box: small / medium / large", lambda f: " / ".join(_size(f, size) for size in ("small", "medium", "large"))
        ),
    ]
    for index in range(len(figures[0].shown)):
        name = f"{index + 1} click{'s' if index else ''}"
        table.append(row(name, lambda f, i=index: f"{f.shown[i]:.3f} ± {f.shown_errors[i]:.3f}"))
        if index == 0:
            table += [
                row("  single mask", lambda f: f"{f.clicks[0].single:.3f}"),
                row("  best of three (oracle)", lambda f: f"{f.clicks[0].oracle:.3f}"),
            ]
    for name in figures[0].noc:
        table.append(row(f"clicks to an IoU of 0.{name[-2:]}", lambda f, n=name: f"{f.noc[n]:.2f}"))
    if figures[0].fallen:
        table.append(row("masks that a further click makes worse", lambda f: f"{sum(f.fallen) / len(f.fallen):.0%}"))
    table.append(row("predicted and true IoU of boxes: correlation", lambda f: _number(f.box.iou_correlation)))
    table.append(row("predicted and true IoU of boxes: mean error / single mask's", lambda f: _iou_errors(f.box)))
    for index in range(len(figures[0].clicks)):
        name = (
            f"predicted and true IoU, {index + 1} click{'s' if index else ''}: correlation / mean error / single mask's"
        )
        table.append(
            row(name, lambda f, i=index: f"{_number(f.clicks[i].iou_correlation)} / {_iou_errors(f.clicks[i])}")
        )
    table += [
        row("the same, all prompts pooled: correlation", lambda f: _number(f.iou_correlation)),
        row("the same, all prompts pooled: mean error", lambda f: f"{f.iou_error:.3f}"),
        row("masks for which the ellipse in the box is better", lambda f: f"{f.ellipse_wins:.0%}"),
        row("box above the ellipse: small / medium / large", _above_ellipse),
    ]
    titles = {
        "box": "no network: the box",
        "ellipse": "no network: ellipse in the box",
        "grabcut": "no network: GrabCut",
    }
    for name in figures[0].baselines:
        table.append(row(titles[name], lambda f, n=name: f"{f.baselines[n]:.3f}" if n in f.baselines else ""))
    return table


def _iou_errors(figures: PromptFigures) -> str:
    return f"{figures.iou_error:.3f} / {figures.single_iou_error:.3f}"


def _size(figures: Figures, size: str) -> str:
    return f"{figures.box.by_size[size]:.3f}" if size in figures.box.by_size else "-"


def _above_ellipse(figures: Figures) -> str:
    gains = {size: figures.box.by_size[size] - ellipse for size, ellipse in figures.ellipse_by_size.items()}
    return " / ".join(f"{gains[size]:+.3f}" if size in gains else "-" for size in ("small", "medium", "large"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def column(subject: str, data: str, subjects: int) -> str:
    """Name of a column of a table, or of a line of a plot."""
    return data if subjects == 1 else f"{subject}, {data}"


def draw_curve(path: Path, figures: Sequence[Figures]) -> None:
    """Plot mIoU against clicks, with the box and the best baseline as lines.

    Raises:
        UsageError: matplotlib is not installed.
    """
    subjects = len({each.subject for each in figures})
    picture, axes = _axes()
    for number, each in enumerate(figures):
        colour, name = f"C{number}", column(each.subject, each.data, subjects)
        clicks = range(1, len(each.shown) + 1)
        axes.plot(clicks, each.shown, "o-", color=colour, label=f"{name}: clicks")
        if subjects > 1:
            axes.axhline(each.box.single, color=colour, linestyle="--", linewidth=0.8)
            continue
        axes.axhline(each.box.single, color=colour, linestyle="--", label=f"{name}: box")
        baseline, value = max(each.baselines.items(), key=lambda item: item[1])
        axes.axhline(value, color=colour, linestyle=":", label=f"{name}: {baseline}, no network")
    axes.set_xlabel("clicks" if subjects == 1 else "clicks; dashed: a box")
    axes.set_ylabel("mIoU with human masks")
    axes.set_ylim(0.0, 1.0)
    axes.set_xticks(range(1, len(figures[0].shown) + 1))
    axes.legend(fontsize=8, loc="lower right")
    picture.savefig(path)


def draw_recall(path: Path, figures: Sequence[AutomaticFigures]) -> None:
    """Plot average recall of automatic masks against the number of masks per photo that count.

    Raises:
        UsageError: matplotlib is not installed.
    """
    subjects = len({each.subject for each in figures})
    picture, axes = _axes()
    for number, each in enumerate(figures):
        name = column(each.subject, each.data, subjects)
        axes.plot(RANKS, list(each.recall.values()), "o-", color=f"C{number}", label=name)
    axes.set_xscale("log")
    axes.set_xticks(RANKS, [str(rank) for rank in RANKS])
    axes.set_xlabel("masks of a photo that count, highest predicted IoU first")
    axes.set_ylabel("average recall of human masks")
    highest = max(max(each.recall.values()) for each in figures)
    axes.set_ylim(0.0, min(1.0, 1.15 * highest) or 1.0)
    axes.legend(fontsize=8, loc="lower right")
    picture.savefig(path)


def _axes() -> tuple[Any, Any]:
    try:
        picture = empty_figure(6.4, 4.2, dpi=120)
    except ImportError as error:
        raise UsageError("the curve needs matplotlib: pip install 'sam-edge[evaluate]'") from error
    axes = picture.add_subplot()
    axes.grid(visible=True, alpha=0.3)
    return picture, axes


def draw_automatic(path: Path, photos: Sequence[tuple[Sample, Sequence[rle.Rle]]]) -> None:
    """Draw a row for each photo: human masks; automatic masks."""
    _sheet(path, [[_all_masks(sample, rles) for rles in (sample.rles, automatic)] for sample, automatic in photos])


def _all_masks(sample: Sample, masks: Sequence[rle.Rle]) -> Photo:
    largest_first = sorted(masks, key=rle.area, reverse=True)
    return draw_all_masks(sample.photo, map(rle.decode, largest_first), 2 * PANEL)


def draw_examples(path: Path, backend: Backend, capacity: Capacity, samples: Sequence[Sample]) -> None:
    """Draw a row for each photo: human masks; masks from their boxes; masks from one click each.

    The masks are drawn at random, by a seed: a photo's largest are its easiest.
    """
    rng = np.random.default_rng(EXAMPLES_SEED)
    _sheet(path, [[_small(panel) for panel in _example(backend, capacity, sample, rng)] for sample in samples])


def _sheet(path: Path, rows: Sequence[Sequence[Photo]]) -> None:
    """Write pictures in rows; those of a row have the same height."""
    joined = [
        np.concatenate([np.pad(panel, ((0, 0), (0, 6), (0, 0)), constant_values=255) for panel in row], 1)
        for row in rows
    ]
    width = max(row.shape[1] for row in joined)
    padded = [np.pad(row, ((0, 6), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in joined]
    Image.fromarray(np.concatenate(padded)).save(path)


def random_masks(sample: Sample, rng: np.random.Generator) -> Masks:
    """Up to `SHOWN_MASKS` of the photo's masks, drawn without replacement: `(M, H, W)` bool."""
    drawn = rng.choice(len(sample.rles), min(SHOWN_MASKS, len(sample.rles)), replace=False)
    return np.ascontiguousarray(sample.masks([int(index) for index in drawn]))


def _example(backend: Backend, capacity: Capacity, sample: Sample, rng: np.random.Generator) -> tuple[Photo, ...]:
    targets = random_masks(sample, rng)
    frame = fitting_frame(capacity, sample.size)
    features = backend.encode(frame.image(sample.photo))
    boxes = box_prompts(np.array([tight_box(mask) for mask in targets], np.int64))
    decoded = decode_prompts(backend, capacity, features, build_prompts(frame, None, None, boxes, None))
    low_res, *_ = as_returned(decoded, capacity.conventions)
    by_box = upscale_binary(np.ascontiguousarray(low_res[:, SINGLE_OUTPUT]), frame)
    points = np.array([click[:2] for mask in targets if (click := first_click(mask)) is not None], np.float64)
    labels = np.full((len(points), 1), int(Label.FOREGROUND))
    prompts = build_prompts(frame, points[:, None], labels, None, None)
    low_res, predicted, _ = decode_prompts(backend, capacity, features, prompts)
    best = FIRST_MULTIMASK + predicted[:, FIRST_MULTIMASK:].argmax(axis=1)
    by_click = upscale_binary(np.ascontiguousarray(low_res[np.arange(len(best)), best]), frame)
    return (
        draw_overlay(sample.photo, targets),
        draw_overlay(sample.photo, by_box, boxes=boxes),
        draw_overlay(sample.photo, by_click, points, labels[:, 0]),
    )


def _small(picture: Photo) -> Photo:
    image = Image.fromarray(picture)
    image.thumbnail((PANEL, PANEL))
    return np.asarray(image)


def write_page(folder: Path, report: dict[str, Any], result: Evaluation) -> None:
    """Write `report.html`: one file without scripts, with embedded pictures.

    Raises:
        UsageError: jinja2 is not installed.
    """
    pictures = {
        name: base64.b64encode((folder / name).read_bytes()).decode()
        for name in (CURVE, RECALL, GROUPS, EXAMPLES, AUTOMATIC_MASKS)
        if (folder / name).is_file()
    }
    captions = {
        CURVE: "Clicks",
        RECALL: "Automatic masks",
        GROUPS: "Groups",
        EXAMPLES: EXAMPLES_SHOW,
        AUTOMATIC_MASKS: AUTOMATIC_SHOW,
    }
    content = {"report": report, "tables": tables(result), "pictures": pictures, "captions": captions}
    try:
        page = render(Path(__file__).with_name(TEMPLATE), **content)
    except ImportError as error:
        raise UsageError("report.html needs jinja2: pip install 'sam-edge[evaluate]'") from error
    (folder / "report.html").write_text(page, encoding="utf-8")


def tables(result: Evaluation) -> list[tuple[str, list[str], list[tuple[str, list[str]]]]]:
    """The tables of a result: a title, the names of the columns, and the rows."""
    count = len(result.subjects)
    kinds: list[tuple[str, Sequence[Any], Any]] = [
        ("mIoU with human masks", result.figures, rows),
        ("automatic masks", result.automatic, automatic_rows),
        ("edges", result.edges, edge_rows),
        ("object proposals", result.proposals, proposal_rows),
        ("instance segmentation from boxes", result.instances, instance_rows),
        ("words: mIoU with human masks", result.text, text_rows),
    ]
    found = [
        (title, [column(each.subject, each.data, count) for each in figures], table(figures))
        for title, figures, table in kinds
        if figures
    ]
    found += [against_table(each) for each in result.against]
    return found + [group_table(each, column(each.subject, each.data, count)) for each in result.groups]
