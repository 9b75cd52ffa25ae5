"""Writes `src/contract.ts`: what the Python runtime declares as data, for TypeScript, so that nothing is typed twice.

`make generate` runs it after a change of the contract; a test compares the file with what it would write.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from sam_edge_runtime.agreement import golden, golden_inputs, metrics
from sam_edge_runtime.agreement.agreement import BOUNDS
from sam_edge_runtime.automatic import generator, settings
from sam_edge_runtime.bundle import (
    bundle,
    contract,
    conventions,
    document,
    manifest,
    official,
    targets,
    text,
    vocabulary,
)
from sam_edge_runtime.decoding import LEAST_STABILITY, STABILITY_OFFSET
from sam_edge_runtime.photo.interpolation import CUBIC
from sam_edge_runtime.photo.read import LARGEST_PHOTO_PIXELS
from sam_edge_runtime.prompts import LARGEST_CHUNK

PATH = Path(__file__).parent / "src" / "contract.ts"
TARGET = "onnx"

HEADER = """\
// Written by `make generate` from the Python runtime (runtime/web/generate_contract.py). Do not edit it by hand.

/** One input or output of a graph. Letters, some divided by a stride, stand for sizes that the bundle names. */
export interface TensorTemplate {
  readonly name: string;
  readonly shape: readonly (number | string)[];
  readonly dtype: string;
}

/** Tensors of a graph, without the further features of a family. */
export interface GraphTemplate {
  readonly inputs: readonly TensorTemplate[];
  readonly outputs: readonly TensorTemplate[];
}

/** Accuracy bounds of a precision against the fp32 model. */
export interface Bounds {
  readonly maskMiou: number;
  readonly iouPredictionError: number;
  readonly embeddingSnrDb: number;
  readonly logitSnrDb: number;
}
"""

# Sizes that no two dimensions of the contract share, so that each number of a shape tells what it stands for.
_FRAME, _CHANNELS, _TEXT_CHANNELS = contract.FrameSize(640, 832), 777, 555
_SYMBOLS = {
    _CHANNELS: "C",
    _TEXT_CHANNELS: "D",
    **{
        size // stride: f"{letter}/{stride}" if stride > 1 else letter
        for letter, size in (("H", _FRAME.height), ("W", _FRAME.width))
        for stride in (1, contract.MASK_STRIDE, contract.EMBEDDING_STRIDE)
    },
}


def _camel(name: str) -> str:
    first, *others = name.lower().split("_")
    return first + "".join(each.capitalize() for each in others)


def _camel_keys(mapping: dict[str, Any]) -> dict[str, Any]:
    return {_camel(key): value for key, value in mapping.items()}


def _template(graph: contract.GraphContract) -> dict[str, Any]:
    return {
        role: [
            {
                "name": spec.name,
                "shape": [size if isinstance(size, str) else _SYMBOLS.get(size, size) for size in spec.shape],
                "dtype": spec.dtype,
            }
            for spec in specs
        ]
        for role, specs in (("inputs", graph.inputs), ("outputs", graph.outputs))
    }


def _inputs_of(own: conventions.Conventions, other: conventions.Conventions) -> list[str]:
    """The inputs of a decoder that one with other conventions lacks."""
    names, others = (
        contract.decoder_contract(_FRAME, _CHANNELS, None, None, conventions=each).input_names for each in (own, other)
    )
    return [name for name in names if name not in others]


def _automatic_defaults() -> dict[str, Any]:
    return {field.name: field.default for field in fields(settings.AutomaticSettings) if field.default is not MISSING}


def constants() -> dict[str, tuple[str, Any]]:
    """Every constant by its name: its TypeScript type, empty where it is inferred, and its value.

    The templates have all tensors but the features, which a manifest names.
    """
    with_text = conventions.Conventions(object_score=True, text_channels=_TEXT_CHANNELS)
    values = {
        "FORMAT": document.FORMAT,
        "FORMAT_VERSION": document.FORMAT_VERSION,
        "MANIFEST_FILE": document.FILE_NAME,
        "GOLDEN_FILE": bundle.GOLDEN_FILE,
        "REPORT_FILE": bundle.REPORT_FILE,
        "NOT_NEEDED_FILES": sorted(bundle._NOT_NEEDED),
        "LARGEST_MANIFEST": document.LARGEST_MANIFEST,
        "LARGEST_CAPACITY": manifest.LARGEST_CAPACITY,
        "MOST_FRAMES": document.MOST_FRAMES,
        "TARGET": TARGET,
        "TARGETS": list(targets.TARGETS),
        "LAYOUT": contract.Layout.NCHW.value,
        "INTERFACE": official.SAM_EDGE,
        "SUFFIX": targets.TARGETS[TARGET].suffix,
        "PIXEL_MEAN": contract.PIXEL_MEAN,
        "EMBEDDING_STRIDE": contract.EMBEDDING_STRIDE,
        "MASK_STRIDE": contract.MASK_STRIDE,
        "MASK_OUTPUTS": contract.MASK_OUTPUTS,
        "SINGLE_OUTPUT": contract.SINGLE_OUTPUT,
        "FIRST_MULTIMASK": contract.FIRST_MULTIMASK,
        "MASK_THRESHOLD": contract.MASK_THRESHOLD,
        "OBJECT_SCORE": contract.OBJECT_SCORE,
        "MASK_PROMPT_INPUTS": _inputs_of(conventions.SAM, conventions.Conventions(mask_prompts=False)),
        "TEXT_INPUTS": _inputs_of(with_text, conventions.SAM),
        "SMALLEST_SIDE": contract.SMALLEST_SIDE,
        "LARGEST_SIDE": contract.LARGEST_SIDE,
        "SIDE_STEP": contract.SIDE_STEP,
        "SMALLEST_SHORT_SIDE": contract.SMALLEST_SHORT_SIDE,
        "FRAME_STEP": contract.FRAME_STEP,
        "MOST_FEATURES": conventions.MOST_FEATURES,
        "LARGEST_FEATURE_CHANNELS": conventions.LARGEST_FEATURE_CHANNELS,
        "FEATURE_STRIDES": conventions.FEATURE_STRIDES,
        "MOST_SLOTS": conventions.MOST_SLOTS,
        "LARGEST_TEXT": conventions.LARGEST_TEXT,
        "VOCABULARY": text.VOCABULARY,
        "TOWER": text.TOWER,
        "MOST_TOKENS": text.MOST_TOKENS,
        "MOST_TOKENIZER_FILES": text.MOST_TOKENIZER_FILES,
        "WORDS_FORMAT": vocabulary.FORMAT,
        "LARGEST_TABLE": vocabulary.LARGEST_TABLE,
        "MOST_WORDS": vocabulary.MOST_WORDS,
        "LONGEST_WORD": vocabulary.LONGEST_WORD,
        "SHOWN_WORDS": vocabulary.SHOWN,
        "NEAR_WORDS": vocabulary._NEAR,
        "IMAGE_STRIDES": conventions.IMAGE_STRIDES,
        "CUBIC": CUBIC,
        "STABILITY_OFFSET": STABILITY_OFFSET,
        "LEAST_STABILITY": LEAST_STABILITY,
        "LARGEST_CHUNK": LARGEST_CHUNK,
        "LARGEST_PHOTO_PIXELS": LARGEST_PHOTO_PIXELS,
        "CROP_EDGE_DISTANCE": generator.CROP_EDGE_DISTANCE,
        "EMBEDDING_SAMPLING": golden.EMBEDDING_SAMPLING,
        "LOGIT_SAMPLING": golden.LOGIT_SAMPLING,
        "LARGEST_GOLDEN": golden.LARGEST_GOLDEN,
        "MASK_PROMPT_SCALE": golden_inputs.MASK_PROMPT_SCALE,
        "BOUNDARY_SHARE": metrics.BOUNDARY_SHARE,
        "LARGEST_SNR": metrics.LARGEST_SNR,
        "OUTPUT_MODES": settings.OUTPUT_MODES,
    }
    bounds = {precision: _camel_keys(asdict(each)) for (target, precision), each in BOUNDS.items() if target == TARGET}
    variants = {variant: _camel_keys(each) for variant, each in settings.VARIANT_DEFAULTS.items()}
    ranges = _camel_keys({**settings._SHARES, **settings._COUNTS})
    return {
        "Label": ("", {label.name: label.value for label in contract.Label}),
        **{name: ("", value) for name, value in values.items()},
        "ENCODER": ("GraphTemplate", _template(contract.encoder_contract(_FRAME, _CHANNELS, conventions=with_text))),
        "DECODER": (
            "GraphTemplate",
            _template(contract.decoder_contract(_FRAME, _CHANNELS, None, None, conventions=with_text)),
        ),
        "DEFAULT_CONVENTIONS": ("", _camel_keys(asdict(conventions.SAM))),
        "BOUNDS": ("Readonly<Record<string, Bounds>>", bounds),
        "AUTOMATIC_DEFAULTS": ("", _camel_keys(_automatic_defaults())),
        "AUTOMATIC_SHARES": ("", sorted(_camel_keys(dict(settings._SHARES)))),
        "AUTOMATIC_RANGES": ("Readonly<Record<string, readonly [number, number]>>", ranges),
        "VARIANT_DEFAULTS": ("Readonly<Record<string, Readonly<Record<string, number>>>>", variants),
    }


def typescript() -> str:
    """The text of `src/contract.ts`."""
    lines = [HEADER]
    for name, (kind, value) in constants().items():
        text = json.dumps(value, indent=2 if isinstance(value, dict) else None)
        lines.append(f"export const {name}{f': {kind}' if kind else ''} = {text}{'' if kind else ' as const'};")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PATH.write_text(typescript(), encoding="utf-8")
