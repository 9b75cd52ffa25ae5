"""The acceptance test of a bundle: inputs, and the fp32 torch model's outputs for them.

`golden.npz` contains two small drawn pictures in each of the bundle's frames, prompts of every kind in frame
coordinates, and the outputs of the fp32 torch model: every fourth cell of each embedding (and of each further feature)
and, for each prompt, the IoU predictions, every fourth low-resolution logit, the low-resolution masks and, where the
model has one, the object score. A prompt with text is stored with its embedding. Any machine with the runtime, and any
port of it to another language, can check itself without torch, weights or photos.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Array, Features, Float32
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.contract import MASK_OUTPUTS, MASK_THRESHOLD, FrameSize, encoder_contract
from sam_edge_runtime.bundle.conventions import Conventions
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.errors import BundleError
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import Prompts
from sam_edge_runtime.system.documents import read_npz

from .agreement import Agreement, PhotoAgreement, PromptAgreement, compare_prompt, with_object
from .golden_inputs import MASK_PROMPT_SCALE, PICTURE_SIZES, draw_picture, prompts_for
from .metrics import cosine, features_snr_db

EMBEDDING_SAMPLING = 4  # every fourth cell of an embedding is stored, along both axes
LOGIT_SAMPLING = 4  # and every fourth logit of a mask
LARGEST_GOLDEN = 64 << 20  # bytes of all arrays; those of a frame of 1024 pixels take a tenth


@dataclass(frozen=True)
class Expected:
    """The fp32 model's outputs for one prompt.

    Attributes:
        logits: `(4, H/16, W/16)` float32, every fourth low-resolution logit along both axes.
        inside: `(4, H/4, W/4)` bool, the low-resolution masks.
        iou: `(4,)` float32, IoU predictions.
        object_score: `(1,)` float32 logit; None where the model has none.
    """

    logits: Float32
    inside: npt.NDArray[np.bool_]
    iou: Float32
    object_score: Float32 | None = None


@dataclass(frozen=True)
class Case:
    """One prompt on one picture.

    Attributes:
        name: of the prompt, in reports.
        picture: index of its picture.
        prompts: the prompt, in frame coordinates.
        expected: the fp32 model's outputs.
    """

    name: str
    picture: int
    prompts: Prompts
    expected: Expected


@dataclass(frozen=True)
class Golden:
    """The content of `golden.npz`.

    Attributes:
        pictures: `(h, w, 3)` uint8 RGB each.
        frames: the size (H, W) of the frame that each picture lies in.
        features: for each picture every fourth cell of its embedding, `(1, C, ~H/64, ~W/64)` float32, and of the
            further features of the family.
        cases: prompts on the pictures.
    """

    pictures: tuple[npt.NDArray[np.uint8], ...]
    frames: tuple[FrameSize, ...]
    features: tuple[Features, ...]
    cases: tuple[Case, ...]

    def of_frame(self, frame: FrameSize) -> Golden:
        """The pictures and prompts in one frame."""
        kept = [index for index, size in enumerate(self.frames) if size == frame]
        return Golden(
            tuple(self.pictures[index] for index in kept),
            (frame,) * len(kept),
            tuple(self.features[index] for index in kept),
            tuple(replace(case, picture=kept.index(case.picture)) for case in self.cases if case.picture in kept),
        )

    def save(self, path: Path) -> None:
        """Write the arrays to `path`, compressed."""
        arrays: dict[str, Any] = {"names": np.array([case.name for case in self.cases])}
        for index, (picture, (embedding, *further)) in enumerate(zip(self.pictures, self.features, strict=True)):
            arrays[f"picture_{index}"] = picture
            arrays[f"picture_{index}_embedding"] = embedding
            arrays |= {f"picture_{index}_feature_{number}": each for number, each in enumerate(further)}
            if (frame := self.frames[index]) != FrameSize.square(frame.side):
                arrays[f"picture_{index}_frame"] = np.array(frame, np.int64)
        for index, case in enumerate(self.cases):
            prefix = f"case_{index}_"
            arrays[prefix + "picture"] = np.int64(case.picture)
            arrays[prefix + "point_coords"] = case.prompts.coords[0]
            arrays[prefix + "point_labels"] = case.prompts.labels[0]
            if case.prompts.masks is not None:
                arrays[prefix + "mask_input"] = np.round(case.prompts.masks[0] * MASK_PROMPT_SCALE).astype(np.int8)
            if case.prompts.text is not None:
                arrays[prefix + "text_embedding"] = case.prompts.text[0]
            arrays[prefix + "logits"] = case.expected.logits
            arrays[prefix + "inside"] = np.packbits(case.expected.inside)
            arrays[prefix + "iou_predictions"] = case.expected.iou
            if case.expected.object_score is not None:
                arrays[prefix + "object_score"] = case.expected.object_score
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path, manifest: Manifest) -> Golden:
        """Read the `golden.npz` of a bundle.

        Args:
            path: the file.
            manifest: of the bundle; shapes must fit its frames and embedding channels.

        Raises:
            BundleError: the file is damaged, or its arrays are not those that `save` writes.
        """
        try:
            return cls._read(read_npz(path, LARGEST_GOLDEN), manifest)
        except (OSError, KeyError, ValueError) as error:
            raise BundleError(f"{path} is no golden test ({error}): export the bundle again") from error

    @classmethod
    def _read(cls, stored: dict[str, Array], manifest: Manifest) -> Golden:
        count = sum(name.startswith("picture_") and name.count("_") == 1 for name in stored)
        names = stored["names"]
        if names.ndim != 1 or names.dtype.kind != "U":
            raise ValueError(f"names is {names.dtype} of shape {names.shape}")
        frames = tuple(_frame(stored, index, manifest) for index in range(count))
        return cls(
            tuple(_array(stored, f"picture_{index}", np.uint8, None, None, 3) for index in range(count)),
            frames,
            tuple(_features(stored, index, frame, manifest) for index, frame in enumerate(frames)),
            tuple(_case(stored, index, str(name), frames, manifest.conventions) for index, name in enumerate(names)),
        )


def _frame(stored: dict[str, Array], index: int, manifest: Manifest) -> FrameSize:
    """The frame of a picture, one of the bundle's; the square does not need to be named."""
    name, frame = f"picture_{index}_frame", FrameSize.square(manifest.input_side)
    if name in stored:
        frame = FrameSize(*_array(stored, name, np.int64, 2).tolist())
    if frame not in manifest.frames:
        raise ValueError(f"picture {index} lies in a frame of {frame.name}, which the bundle does not have")
    return frame


def _features(stored: dict[str, Array], index: int, frame: FrameSize, manifest: Manifest) -> Features:
    """The sampled features of a picture in a frame."""
    names = ("embedding", *(f"feature_{number}" for number in range(len(manifest.conventions.features))))
    specs = encoder_contract(frame, manifest.embedding_channels, conventions=manifest.conventions).outputs
    return tuple(
        _array(
            stored,
            f"picture_{index}_{name}",
            np.float32,
            *(int(size) if axis < 2 else -(-int(size) // EMBEDDING_SAMPLING) for axis, size in enumerate(spec.shape)),
        )
        for name, spec in zip(names, specs, strict=True)
    )


def _array(stored: dict[str, Array], name: str, dtype: type[np.generic], *shape: int | None) -> Any:
    """The array `name`, checked for dtype and shape; None in a shape is any size above 0."""
    array = stored[name]
    fits = len(array.shape) == len(shape) and all(
        have == want or (want is None and have > 0) for have, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    return array


def _case(
    stored: dict[str, Array], index: int, name: str, frames: tuple[FrameSize, ...], conventions: Conventions
) -> Case:
    prefix = f"case_{index}_"
    picture = int(_array(stored, prefix + "picture", np.int64))
    if not 0 <= picture < len(frames):
        raise ValueError(f"{prefix}picture is {picture} of {len(frames)}")
    frame = frames[picture]
    rows, columns = frame.cells
    coords = _array(stored, prefix + "point_coords", np.float32, None, 2)
    mask = None
    if prefix + "mask_input" in stored:
        eighths = _array(stored, prefix + "mask_input", np.int8, 1, rows, columns)
        mask = (eighths[None] / MASK_PROMPT_SCALE).astype(np.float32)
    text = None
    if prefix + "text_embedding" in stored:
        text = _array(stored, prefix + "text_embedding", np.float32, conventions.text_channels)[None]
    inside = np.unpackbits(_array(stored, prefix + "inside", np.uint8, MASK_OUTPUTS * rows * columns // 8))
    return Case(
        name,
        picture,
        Prompts(
            coords[None], _array(stored, prefix + "point_labels", np.float32, coords.shape[0])[None], mask, frame, text
        ),
        Expected(
            _array(
                stored,
                prefix + "logits",
                np.float32,
                MASK_OUTPUTS,
                -(-rows // LOGIT_SAMPLING),
                -(-columns // LOGIT_SAMPLING),
            ),
            inside.reshape(MASK_OUTPUTS, rows, columns).astype(np.bool_),
            _array(stored, prefix + "iou_predictions", np.float32, MASK_OUTPUTS),
            _array(stored, prefix + "object_score", np.float32, 1) if conventions.object_score else None,
        ),
    )


def record(reference: Backend, manifest: Manifest, texts: Mapping[str, Float32] | None = None) -> Golden:
    """The acceptance test of a bundle, with the outputs of the fp32 model.

    Args:
        reference: the fp32 model; it takes any number of prompts and slots.
        manifest: of the bundle; prompts that need more slots than it has are left out.
        texts: embeddings `(D,)` of words by name, where the decoder takes text.

    Raises:
        BackendError: the model failed.
    """
    drawn = [draw_picture(size, seed) for seed, size in enumerate(PICTURE_SIZES)] * len(manifest.frames)
    pictures = tuple(picture for picture, _ in drawn)
    sizes = tuple(size for size in manifest.frames for _ in PICTURE_SIZES)
    frames = [
        Frame(size, picture.shape[:2], manifest.conventions) for picture, size in zip(pictures, sizes, strict=True)
    ]
    full = [reference.encode(frame.image(picture)) for frame, picture in zip(frames, pictures, strict=True)]
    cases = []
    for index, frame in enumerate(frames):
        for name, prompts in prompts_for(frame, drawn[index][1], texts or {}).items():
            slots = prompts.coords.shape[1]
            if manifest.points is None or slots <= manifest.points:
                decoded = decode_prompts(reference, manifest.of_any_capacity(), full[index], prompts)
                low_res = decoded.low_res_masks[0]
                expected = Expected(
                    low_res[:, ::LOGIT_SAMPLING, ::LOGIT_SAMPLING],
                    low_res > MASK_THRESHOLD,
                    decoded.iou_predictions[0],
                    decoded.object_score(0),
                )
                cases.append(Case(name, index, prompts, expected))
    return Golden(pictures, sizes, tuple(_sample(features) for features in full), tuple(cases))


def check(golden: Golden, backend: Backend, manifest: Manifest) -> Agreement:
    """Run the acceptance test on a bundle's engine and compare. Mask IoU is that of the low-resolution masks.

    Every row of a call of fixed size holds a prompt and is compared. A decoder of several call sizes is tested with
    each.

    Args:
        golden: the test.
        backend: the engine.
        manifest: of the bundle.

    Raises:
        BackendError: the engine failed.
    """
    photos = []
    for index, picture in enumerate(golden.pictures):
        frame = Frame(golden.frames[index], picture.shape[:2], manifest.conventions)
        features = backend.encode(frame.image(picture))
        sampled = _sample(features)
        cases = [case for case in golden.cases if case.picture == index]
        photos.append(
            PhotoAgreement(
                picture_name(golden, index),
                features_snr_db(golden.features[index], sampled),
                cosine(golden.features[index][0], sampled[0]),
                tuple(
                    agreement
                    for capacity in manifest.each_capacity()
                    for calls in _calls(cases, capacity.prompts)
                    for agreement in _compare(calls, backend, capacity, features, named=bool(manifest.batches))
                ),
            )
        )
    return Agreement(tuple(photos))


def picture_name(golden: Golden, index: int) -> str:
    """A picture's name in reports; with its frame, where the bundle has several."""
    number = golden.frames[: index + 1].count(golden.frames[index])
    return f"golden picture {number}" + (f" in {golden.frames[index].name}" if len(set(golden.frames)) > 1 else "")


def _calls(cases: Sequence[Case], size: int | None) -> Iterator[list[Case]]:
    """Cases of each call: one, or enough to fill `size` rows, repeated where there are too few."""
    for inputs in ((False, False), (True, False), (False, True), (True, True)):
        kind = [case for case in cases if (case.prompts.masks is not None, case.prompts.text is not None) == inputs]
        if size is None:
            yield from ([case] for case in kind)
        elif kind:
            yield [kind[index % len(kind)] for index in range(max(size, len(kind)))]


def _compare(
    cases: Sequence[Case], backend: Backend, capacity: Manifest, features: Features, *, named: bool
) -> Iterator[PromptAgreement]:
    decoded = decode_prompts(backend, capacity, features, Prompts.joined([case.prompts for case in cases]))
    for row, case in enumerate(cases):
        masks, expected = decoded.low_res_masks[row], case.expected
        scores = (
            with_object(expected.iou, expected.object_score),
            with_object(decoded.iou_predictions[row], decoded.object_score(row)),
        )
        inside = (expected.inside, masks > MASK_THRESHOLD)
        logits = (expected.logits, masks[:, ::LOGIT_SAMPLING, ::LOGIT_SAMPLING])
        name = f"{case.name}, in calls of {capacity.prompts}" if named else case.name
        yield compare_prompt(name, inside, inside, scores, logits)


def _sample(features: Features) -> Features:
    return tuple(each[:, :, ::EMBEDDING_SAMPLING, ::EMBEDDING_SAMPLING].copy() for each in features)
