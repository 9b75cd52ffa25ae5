"""Checks prompts in photo coordinates and arranges them in the slots of the decoder.

The rules are those of segment_anything 1.0 (modeling/prompt_encoder.py): a click takes one slot. A box takes two, its
corners, with labels 2 and 3, after the clicks. Clicks without a box end with a slot labelled -1, "not a point".

A prompt without clicks and box has no slot there. A graph needs at least one, so it gets an empty slot (-2), which
attention ignores. Empty slots also fill decoders of fixed shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Float32, Float64, TextInputs
from .bundle.contract import FrameSize, Label
from .bundle.conventions import Conventions
from .errors import PromptError
from .photo.frame import Frame

# Prompts in one call of a decoder that takes any number: limits its memory. SAM's decoder at a side of 1024 has a peak
# of 0.6 GB for 16 prompts and 2.2 GB for 64 (measured in ONNX Runtime on a CPU).
LARGEST_CHUNK = 16

_CLICK_LABELS = (int(Label.BACKGROUND), int(Label.FOREGROUND))
_FARTHEST = 1e9  # pixels; box corners beyond are a mistake


@dataclass(frozen=True)
class DecoderFeed:
    """The prompt inputs of one call of the decoder.

    Attributes:
        point_coords: `(B, N, 2)` float32, x, y in pixels of the frame.
        point_labels: `(B, N)` float32, values of `Label`.
        mask_input: `(B, 1, H/4, W/4)` float32 logits.
        has_mask_input: `(B,)` float32, 1 where `mask_input` counts, else 0.
        count: number of real prompts; they come first, and the rest of B fills a fixed shape.
        text: text of the prompts; None where none has any.
    """

    point_coords: Float32
    point_labels: Float32
    mask_input: Float32
    has_mask_input: Float32
    count: int
    text: TextInputs | None = None

    @property
    def arrays(
        self,
    ) -> tuple[Float32, Float32, Float32, Float32] | tuple[Float32, Float32, Float32, Float32, TextInputs]:
        """The arguments of `Backend.decode` behind the features; without text as many as a backend without it has."""
        first = (self.point_coords, self.point_labels, self.mask_input, self.has_mask_input)
        return first if self.text is None else (*first, self.text)


@dataclass(frozen=True)
class Prompts:
    """Checked prompts in frame coordinates.

    Attributes:
        coords: `(B, N, 2)` float32, x, y in pixels of the frame, N >= 1.
        labels: `(B, N)` float32, values of `Label`.
        masks: `(B, 1, H/4, W/4)` float32 logits; None: no prompt has a mask.
        frame: size (H, W) of the frame in pixels.
        text: `(B, D)` float32 embeddings of text; None: no prompt has text.
    """

    coords: Float32
    labels: Float32
    masks: Float32 | None
    frame: FrameSize
    text: Float32 | None = None

    def __len__(self) -> int:
        return len(self.coords)

    @classmethod
    def joined(cls, parts: Sequence[Prompts]) -> Prompts:
        """All prompts of `parts` in order; shorter ones end with empty slots.

        Args:
            parts: prompts for frames of the same size, all with masks or all without, likewise with text.
        """
        slots = max(part.coords.shape[1] for part in parts)
        coords, labels = [], []
        for part in parts:
            missing = slots - part.coords.shape[1]
            coords.append(np.pad(part.coords, ((0, 0), (0, missing), (0, 0))))
            labels.append(np.pad(part.labels, ((0, 0), (0, missing)), constant_values=float(Label.EMPTY)))
        masks = [part.masks for part in parts if part.masks is not None]
        texts = [part.text for part in parts if part.text is not None]
        return cls(
            np.concatenate(coords),
            np.concatenate(labels),
            np.concatenate(masks) if masks else None,
            parts[0].frame,
            np.concatenate(texts) if texts else None,
        )

    def feeds(self, sizes: tuple[int, ...], slots: int | None) -> Iterator[DecoderFeed]:
        """The decoder calls for all prompts, in order.

        Args:
            sizes: numbers of prompts that a call may have, ascending; empty: any number.
            slots: fixed number of slots of a prompt; None: any number.

        Raises:
            PromptError: a prompt needs more slots than the decoder has.
        """
        needed = self.coords.shape[1]
        if slots is not None and needed > slots:
            raise PromptError(
                f"the prompt needs {needed} slots and this decoder has {slots} (a click takes one, a box two, and "
                f"clicks without a box one more); give fewer points or export with --points {needed}"
            )
        start = 0
        while start < len(self):
            rows = _rows(len(self) - start, sizes)
            real = min(rows, len(self) - start)
            columns = needed if slots is None else slots
            feed = DecoderFeed(
                point_coords=np.zeros((rows, columns, 2), np.float32),
                point_labels=np.full((rows, columns), Label.EMPTY, np.float32),
                mask_input=np.zeros((rows, 1, *self.frame.cells), np.float32),
                has_mask_input=np.zeros(rows, np.float32),
                count=real,
                text=self._text_inputs(start, real, rows),
            )
            feed.point_coords[:real, :needed] = self.coords[start : start + real]
            feed.point_labels[:real, :needed] = self.labels[start : start + real]
            if self.masks is not None:
                feed.mask_input[:real] = self.masks[start : start + real]
                feed.has_mask_input[:real] = 1
            yield feed
            start += real

    def _text_inputs(self, start: int, real: int, rows: int) -> TextInputs | None:
        """The text of `real` prompts from `start` on, in a call of `rows`."""
        if self.text is None:
            return None
        text = TextInputs(np.zeros((rows, self.text.shape[1]), np.float32), np.zeros(rows, np.float32))
        text.embeddings[:real] = self.text[start : start + real]
        text.has_text[:real] = 1
        return text


def _rows(left: int, sizes: tuple[int, ...]) -> int:
    """Rows of the next call when `left` prompts remain.

    The smallest size that takes them all if they fill at least half of it, else the largest size that they fill. Eight
    prompts in one call take about five times as long as one (nano in LiteRT), so a call that is mostly empty is slower.
    """
    if not sizes:
        return min(left, LARGEST_CHUNK)
    holding = next((size for size in sizes if size >= left), sizes[-1])
    filled = [size for size in sizes if size <= left]
    return holding if 2 * left >= holding or not filled else filled[-1]


def build_prompts(
    frame: Frame,
    point_coords: npt.ArrayLike | None,
    point_labels: npt.ArrayLike | None,
    boxes: npt.ArrayLike | None,
    mask_input: npt.ArrayLike | None,
    *,
    labels_allowed: tuple[int, ...] = _CLICK_LABELS,
    text: npt.ArrayLike | None = None,
) -> Prompts:
    """Check prompts in photo coordinates and arrange them in slots.

    Args:
        frame: geometry of the photo in the frame; its conventions say which prompts the model's family knows.
        point_coords: `(B, N, 2)`, x, y in pixels of the photo, inside it; ignored where the label is below 0.
        point_labels: `(B, N)`, values of `labels_allowed`.
        boxes: `(B, 4)`, x0, y0, x1, y1 in pixels of the photo; each overlaps it.
        mask_input: `(B, 1, H/4, W/4)` logits.
        labels_allowed: accepted labels. Those below 0 pad prompts of different lengths to one array.
        text: `(B, D)` embeddings of text.

    Returns:
        The prompts in frame coordinates. One prompt with an empty slot when every input is None, as in
        segment_anything.

    Raises:
        PromptError: wrong shapes, different numbers of prompts, values that are not finite, labels that are not
            accepted, points or boxes outside the photo, or prompts that the family does not know.
    """
    if mask_input is not None and not frame.conventions.mask_prompts:
        raise PromptError("this model takes no mask prompts: leave out mask_input, and give points or a box")
    clicks = _clicks(frame, point_coords, point_labels, labels_allowed)
    corners = None if boxes is None else _corners(frame, boxes)
    masks = None if mask_input is None else _masks(frame, mask_input)
    texts = None if text is None else _texts(frame.conventions, text)
    lengths = {
        name: len(part)
        for name, part in (
            ("point_coords", clicks and clicks[0]),
            ("boxes", corners),
            ("mask_input", masks),
            ("text", texts),
        )
        if part is not None
    }
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise PromptError(f"the inputs hold different numbers of prompts ({counts}); give each the same number")
    count = next(iter(lengths.values()), 1)

    coords, labels = clicks if clicks is not None else (np.zeros((count, 0, 2)), np.zeros((count, 0)))
    if corners is not None:
        coords = np.concatenate([coords, corners], axis=1)
        box_labels = np.array([[Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT]], np.float64)
        labels = np.concatenate([labels, np.repeat(box_labels, count, axis=0)], axis=1)
    elif clicks is not None and frame.conventions.slots is None:
        coords = np.concatenate([coords, np.zeros((count, 1, 2))], axis=1)
        labels = np.concatenate([labels, np.full((count, 1), float(Label.PADDING))], axis=1)
    coords, labels = _compacted(coords, labels)
    _check_known(labels, frame.conventions)
    return Prompts(frame.to_frame(coords), labels.astype(np.float32), masks, frame.size, texts)


def _check_known(labels: Float64, conventions: Conventions) -> None:
    """Refuse points outside of objects, and more slots, where the family does not know them."""
    if not conventions.background_points and (labels == Label.BACKGROUND).any():
        raise PromptError(
            "this model knows no points outside the object (label 0): give points inside it (label 1) or a box"
        )
    needed, slots = labels.shape[1], conventions.slots
    if slots is not None and needed > slots:
        raise PromptError(
            f"the prompt needs {needed} slots, and this model has {slots} (a point takes one, a box two): give fewer "
            "points"
        )


def _compacted(coords: Float64, labels: Float64) -> tuple[Float64, Float64]:
    """Slots in use first, and as many columns as the longest prompt uses, at least one."""
    if not labels.shape[1]:
        return np.zeros((len(labels), 1, 2)), np.full((len(labels), 1), float(Label.EMPTY))
    empty = labels == Label.EMPTY
    columns = max(1, int((~empty).sum(axis=1).max(initial=0)))
    order = np.argsort(empty, axis=1, kind="stable")[:, :columns]
    return np.take_along_axis(coords, order[:, :, None], axis=1), np.take_along_axis(labels, order, axis=1)


def _numbers(name: str, values: npt.ArrayLike, kinds: str = "iuf") -> Float64:
    """`values` as a float64 array.

    Raises:
        PromptError: rows of different lengths, or values that are no real numbers.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise PromptError(f"{name} has rows of different lengths; make it one rectangular array") from None
    if array.dtype.kind not in kinds:
        raise PromptError(f"{name} holds {array.dtype} values; give numbers")
    return array.astype(np.float64)


def _clicks(
    frame: Frame,
    point_coords: npt.ArrayLike | None,
    point_labels: npt.ArrayLike | None,
    labels_allowed: tuple[int, ...],
) -> tuple[Float64, Float64] | None:
    """Coordinates `(B, N, 2)`, zero where the label is below 0, and labels `(B, N)`; None without points."""
    if point_coords is None and point_labels is None:
        return None
    if point_coords is None:
        raise PromptError("point_labels is given without point_coords; give both or neither")
    if point_labels is None:
        raise PromptError("point_coords is given without point_labels; give each point a label: 1 inside, 0 outside")
    coords, labels = _numbers("point_coords", point_coords), _numbers("point_labels", point_labels, "biuf")
    if coords.ndim != 3 or coords.shape[2] != 2:
        raise PromptError(f"point_coords has shape {coords.shape}; it must be x, y pairs: (N, 2), in a batch (B, N, 2)")
    if labels.shape != coords.shape[:2]:
        raise PromptError(
            f"point_labels of {labels.shape[:2]} (prompts, points) do not match point_coords of {coords.shape[:2]}; "
            "give one label for each point"
        )
    if not (known := np.isin(labels, labels_allowed)).all():
        choices = ", ".join(str(label) for label in labels_allowed)
        raise PromptError(
            f"point label {labels[~known][0]:g} is not one of {choices}; 1 is inside the object, 0 outside"
        )
    coords[labels < 0] = 0  # coordinates of unused slots have no meaning; segment_anything writes 0, 0
    if not np.isfinite(coords).all():
        x, y = coords[~np.isfinite(coords).all(axis=2)][0]
        raise PromptError(f"point ({x:g}, {y:g}) is not finite; give pixel positions")
    height, width = frame.original_size
    if (outside := ((coords < 0) | (coords > [width, height])).any(axis=2)).any():
        x, y = coords[outside][0]
        raise PromptError(
            f"point ({x:g}, {y:g}) lies outside the photo of {width}x{height} pixels; "
            f"x runs from 0 to {width}, y from 0 to {height}; move it inside or leave it out"
        )
    return coords, labels


def _corners(frame: Frame, boxes: npt.ArrayLike) -> Float64:
    """Corners `(B, 2, 2)` of boxes `(B, 4)`. They may exceed the photo's edges, as boxes of detectors do."""
    corners = _numbers("box", boxes)
    if corners.shape == (0,):  # an empty list of boxes
        corners = corners.reshape(0, 4)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise PromptError(f"box has shape {corners.shape}; it must be x0, y0, x1, y1: (4,), in a batch (B, 4)")
    height, width = frame.original_size
    for index, (x0, y0, x1, y1) in enumerate(corners.tolist()):
        what = f"{'box' if len(corners) == 1 else f'boxes[{index}]'} ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if not all(abs(value) <= _FARTHEST for value in (x0, y0, x1, y1)):  # False for NaN too
            raise PromptError(f"{what} is not finite or larger than any photo; give pixel positions")
        if x1 <= x0 or y1 <= y0:
            raise PromptError(f"{what} has no area; give x0, y0, x1, y1 with x0 < x1 and y0 < y1, or leave it out")
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            raise PromptError(f"{what} lies outside the photo of {width}x{height} pixels; it must overlap it")
    return corners.reshape(-1, 2, 2)


def _masks(frame: Frame, mask_input: npt.ArrayLike) -> Float32:
    """Mask prompts `(B, 1, H/4, W/4)` float32."""
    masks = _numbers("mask_input", mask_input)
    rows, columns = frame.size.cells
    if masks.ndim == 3 and masks.shape[1:] == (rows, columns):
        raise PromptError(
            f"mask_input lacks an axis: this model takes (1, {rows}, {columns}), in a batch (B, 1, {rows}, "
            f"{columns}); give mask_input[None] to predict, mask_input[:, None] to predict_batch"
        )
    if masks.ndim != 4 or masks.shape[1:] != (1, rows, columns):
        raise PromptError(
            f"mask_input has shape {masks.shape[1:]} where this model takes (1, {rows}, {columns}), in a batch "
            f"(B, 1, {rows}, {columns}); pass on the low-resolution logits that an earlier predict returned"
        )
    if not (np.abs(masks) <= np.finfo(np.float32).max).all():  # False for NaN too
        raise PromptError("mask_input holds values that are not finite; pass on the logits of an earlier predict")
    return masks.astype(np.float32)


def _texts(conventions: Conventions, text: npt.ArrayLike) -> Float32:
    """Embeddings of text `(B, D)` float32."""
    if conventions.text_channels is None:
        raise PromptError(
            "this model takes no text: give points, a box or a mask, or a bundle that was exported with `--words`"
        )
    texts = _numbers("text", text)
    if texts.ndim != 2 or texts.shape[1] != conventions.text_channels:
        raise PromptError(
            f"the embedding of the text has shape {texts.shape}; this model takes (B, {conventions.text_channels})"
        )
    if not (np.abs(texts) <= np.finfo(np.float32).max).all():  # False for NaN too
        raise PromptError("the embedding of the text holds values that are not finite; embed the text again")
    return texts.astype(np.float32)
