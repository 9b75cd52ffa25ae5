"""Words as prompts, against the masks that people gave these names.

For every photo and every name that it has: the word alone should give the union of that name's masks, and with a click
the mask at the click. For every photo and every name of the data: whether the word is there at all. Beside it stands
what a user has without words: a click, and the largest automatic mask. All at the photo's own resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sam_edge.data.mask_names import Names
from sam_edge.data.sample import Sample
from sam_edge.prediction.promptable import Promptable
from sam_edge.prompting.clicks import first_click
from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.arrays import Decoded, Features, Float32, Float64, Mask
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.bundle.contract import FIRST_MULTIMASK, MASK_OUTPUTS, SINGLE_OUTPUT, Label
from sam_edge_runtime.bundle.vocabulary import Vocabulary
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.errors import PromptError
from sam_edge_runtime.photo.frame import Frame, fitting_frame
from sam_edge_runtime.photo.masks import upscale_binary
from sam_edge_runtime.prompts import Prompts, build_prompts

AUTOMATIC_POINTS = 8  # points per side of the grid for the largest automatic mask


@dataclass(frozen=True)
class NamedMask:
    """One name in one photo: IoUs of what each prompt gives.

    Attributes:
        name: the name.
        union: the word's single mask with the union of the name's masks.
        instance: the best of the word's four masks with the best of the name's masks.
        click: one click on the largest mask of the name, without the word: the output of 1..3 with the highest
            predicted IoU, with that mask.
        word_and_click: the same click with the word: its single mask, with that mask.
        centre: a click in the middle of the photo, with the union.
        automatic: the largest automatic mask, with the union.
    """

    name: str
    union: float
    instance: float
    click: float
    word_and_click: float
    centre: float
    automatic: float


@dataclass(frozen=True, eq=False)
class WordsOnPhoto:
    """The measurement of one photo.

    Attributes:
        named: each name that it has and the vocabulary too.
        scores: presence logits of the asked words.
        present: `(W)` whether the photo has each.
        unknown: names that the vocabulary does not have.
    """

    named: tuple[NamedMask, ...]
    scores: Float64
    present: Mask
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class TextFigures:
    """The figures of one data source: means over photos and their names.

    Attributes:
        subject: name of the model or bundle.
        data: name of the source.
        photos, pairs: how many photos, and photos with a name, were measured.
        union, instance, click, word_and_click, centre, automatic: means of the fields of `NamedMask`.
        auc: area under the ROC curve of presence, over photos and asked words; None where all or none are present.
        by_word: for each name the number of photos and the mean of `union`.
        unknown: names of the data that the vocabulary does not have.
        skipped: records that could not be used.
    """

    subject: str
    data: str
    photos: int
    pairs: int
    union: float
    instance: float
    click: float
    word_and_click: float
    centre: float
    automatic: float
    auc: float | None
    by_word: dict[str, tuple[int, float]]
    unknown: tuple[str, ...] = ()
    skipped: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class TextMeter:
    """Measures a model's words on photos.

    Attributes:
        words: the names that presence is asked of: those of the data that the vocabulary has.
    """

    def __init__(self, subject: Promptable, names: Sequence[str]) -> None:
        """Prepare.

        Args:
            subject: model or bundle.
            names: all names of the data.

        Raises:
            PromptError: it knows no words, or none of the names.
        """
        if subject.vocabulary is None:
            raise PromptError(
                f"{subject.name} knows no words: export a bundle with --words, or measure the torch model nano"
            )
        self._subject, self._vocabulary = subject, subject.vocabulary
        self.words = tuple(name for name in names if _knows(self._vocabulary, name))
        if not self.words:
            raise PromptError(f"{subject.name} knows none of the data's {len(names)} names, such as {names[:3]}")
        self._vectors = self._vocabulary.embed(self.words)
        self._generator: AutomaticMaskGenerator = subject.mask_generator({"points_per_side": AUTOMATIC_POINTS})

    def measure(self, sample: Sample, names: Names) -> WordsOnPhoto:
        """Measure one photo; `names` are those of its masks."""
        subject = self._subject
        frame = fitting_frame(subject.capacity, sample.size)
        features = subject.backend.encode(frame.image(sample.photo))
        decoded = self._decode(frame, features, text=self._vectors)
        scores = np.zeros(len(self.words)) if decoded.object_scores is None else decoded.object_scores[:, 0]
        targets: dict[str, list[Mask]] = {}
        for mask, name in zip(sample.masks(), names, strict=True):
            if name is not None and mask.any():
                targets.setdefault(name, []).append(mask)
        largest = self._largest_automatic(sample)
        height, width = sample.size
        middle = self._decode(frame, features, np.array([[[width / 2, height / 2]]]))
        centre = _full(_chosen(middle), frame)[0]
        named = []
        for row, word in enumerate(self.words):
            if word not in targets:
                continue
            union = np.any(targets[word], axis=0)
            four = _full(decoded.low_res_masks[row], frame)
            target = max(targets[word], key=np.count_nonzero)
            click, both = self._clicked(frame, features, target, self._vectors[row : row + 1])
            named.append(
                NamedMask(
                    word,
                    union=mask_iou(four[SINGLE_OUTPUT], union),
                    instance=max(mask_iou(mask, each) for mask in four for each in targets[word]),
                    click=click,
                    word_and_click=both,
                    centre=mask_iou(centre, union),
                    automatic=mask_iou(largest, union),
                )
            )
        present = np.array([word in targets for word in self.words], np.bool_)
        unknown = tuple(name for name in targets if name not in self.words)
        return WordsOnPhoto(tuple(named), scores.astype(np.float64), present, unknown)

    def _clicked(self, frame: Frame, features: Features, target: Mask, vector: Float32) -> tuple[float, float]:
        """IoU with a mask of one click on its innermost point, without and with a word."""
        click = first_click(target)
        if click is None:
            return 0.0, 0.0
        point = np.array([[[click.x, click.y]]], np.float64)
        alone = self._decode(frame, features, point)
        both = self._decode(frame, features, point, vector)
        shown = _full(np.concatenate([_chosen(alone), both.low_res_masks[:, SINGLE_OUTPUT]]), frame)
        return mask_iou(shown[0], target), mask_iou(shown[1], target)

    def _decode(
        self, frame: Frame, features: Features, points: Float64 | None = None, text: Float32 | None = None
    ) -> Decoded:
        labels = None if points is None else np.full(points.shape[:2], int(Label.FOREGROUND))
        prompts: Prompts = build_prompts(frame, points, labels, None, None, text=text)
        return decode_prompts(self._subject.backend, self._subject.capacity, features, prompts)

    def _largest_automatic(self, sample: Sample) -> Mask:
        found = self._generator.generate(sample.photo)
        if not found:
            return np.zeros(sample.size, np.bool_)
        return rle.decode(max(found, key=lambda mask: mask["area"])["segmentation"])


def _knows(vocabulary: Vocabulary, name: str) -> bool:
    return name in vocabulary.names


def _chosen(decoded: Decoded) -> Float32:
    """The output of 1..3 with the highest predicted IoU, `(B, H/4, W/4)`."""
    best = FIRST_MULTIMASK + decoded.iou_predictions[:, FIRST_MULTIMASK:MASK_OUTPUTS].argmax(axis=1)
    masks: Float32 = decoded.low_res_masks[np.arange(len(best)), best]
    return masks


def _full(low_res: Float32, frame: Frame) -> Any:
    """Masks `(M, H, W)` of the photo's size."""
    return upscale_binary(np.ascontiguousarray(low_res), frame)


def text_figures(subject: str, data: str, photos: Sequence[WordsOnPhoto], skipped: Sequence[str] = ()) -> TextFigures:
    """The figures of a source; at least one photo has a name that the vocabulary has."""
    pairs = [named for photo in photos for named in photo.named]
    by_word: dict[str, list[float]] = {}
    for named in pairs:
        by_word.setdefault(named.name, []).append(named.union)
    fields = ("union", "instance", "click", "word_and_click", "centre", "automatic")
    means = {name: float(np.mean([getattr(pair, name) for pair in pairs])) if pairs else 0.0 for name in fields}
    scores, present = (np.concatenate([getattr(photo, name) for photo in photos]) for name in ("scores", "present"))
    return TextFigures(
        subject=subject,
        data=data,
        photos=len(photos),
        pairs=len(pairs),
        **means,
        auc=roc_auc(scores, present),
        by_word={word: (len(ious), float(np.mean(ious))) for word, ious in sorted(by_word.items())},
        unknown=tuple(sorted({name for photo in photos for name in photo.unknown})),
        skipped=tuple(skipped),
    )


def roc_auc(scores: Float64, present: Mask) -> float | None:
    """The chance that a present word scores higher than an absent one; ties count half.

    Args:
        scores: `(N)`.
        present: `(N)` bool.
    """
    positive, negative = np.sort(scores[present]), np.sort(scores[~present])
    if not len(positive) or not len(negative):
        return None
    below = np.searchsorted(negative, positive, side="left")
    ties = np.searchsorted(negative, positive, side="right") - below
    return float((below + 0.5 * ties).sum() / (len(positive) * len(negative)))


def text_rows(figures: Sequence[TextFigures]) -> list[tuple[str, list[str]]]:
    """The rows of the table: a name, and a cell for each of `figures`."""

    def row(name: str, value: Callable[[TextFigures], str]) -> tuple[str, list[str]]:
        return name, [value(each) for each in figures]

    return [
        row("photos / photos with a name", lambda f: f"{f.photos} / {f.pairs}"),
        row("word: union of its masks", lambda f: f"{f.union:.3f}"),
        row("  mean over words", lambda f: f"{np.mean([mean for _, mean in f.by_word.values()] or [0.0]):.3f}"),
        row("word: best mask, of one instance", lambda f: f"{f.instance:.3f}"),
        row("word and click: that instance", lambda f: f"{f.word_and_click:.3f}"),
        row("click alone: that instance", lambda f: f"{f.click:.3f}"),
        row("no word: click in the middle, union", lambda f: f"{f.centre:.3f}"),
        row("no word: largest automatic mask, union", lambda f: f"{f.automatic:.3f}"),
        row("present or absent: ROC AUC", lambda f: "-" if f.auc is None else f"{f.auc:.3f}"),
        row("names without a word", lambda f: str(len(f.unknown))),
    ]
