"""The graphs of a bundle as a device's tool takes them: files, signature, sizes of free axes.

A TFLite decoder with signatures for several capacities is measured once for each. A decoder that takes any number of
prompts and points is measured with one click, which takes two slots: the point, and SAM's "not a point".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import decoder_signature
from sam_edge_runtime.errors import UsageError

from .timing import DECODER, ENCODER, BundleUnderTest

ONE_CLICK = {"B": 1, "N": 2}


@dataclass(frozen=True)
class Work:
    """A graph to measure.

    Attributes:
        subject: description of the graph.
        files: the graph's file or folder, then further files, such as external data.
        signature: the signature to run; empty if the file has only one.
        axes: sizes of the free axes by letter; empty if all are fixed.
    """

    subject: BundleUnderTest
    files: tuple[Path, ...]
    signature: str = ""
    axes: dict[str, int] = field(default_factory=dict)


def works_of(name: str, bundle: Bundle) -> list[Work]:
    """The encoder, then the decoder once for each capacity; `name` is the bundle's name in tables.

    Raises:
        UsageError: the bundle has the official layout, or several frames.
    """
    manifest = bundle.manifest
    manifest.require_own_tensors("a measurement on a device")
    if len(manifest.frames) > 1:
        raise UsageError(
            f"{name} holds {len(manifest.frames)} frames, and a device's tool runs a file with one: export the frame "
            f"to measure by itself, such as --frame {manifest.frame.name}"
        )

    def work(graph: str, file: str, prompts: int | None, signature: str = "") -> Work:
        parts = [part for part in manifest.files if part == file or part.startswith((f"{file}.", f"{file}/"))]
        beside = sorted(part for part in parts if part.startswith(f"{file}."))
        contract = manifest.decoder_contract if graph == DECODER else manifest.encoder_contract
        free = {size for spec in contract.inputs for size in spec.shape if isinstance(size, str)}
        return Work(
            BundleUnderTest(
                name,
                manifest.variant,
                manifest.precision,
                manifest.target,
                graph,
                prompts,
                sum(manifest.files[part].bytes for part in parts),
            ),
            tuple(bundle.root / part for part in (file, *beside)),
            signature,
            {letter: ONE_CLICK[letter] for letter in sorted(free)},
        )

    if manifest.batches:
        decoders = [work(DECODER, manifest.decoder, size, decoder_signature(size)) for size in manifest.batches]
    else:
        decoders = [work(DECODER, manifest.decoder, manifest.prompts or ONE_CLICK["B"])]
    return [work(ENCODER, manifest.encoder, None), *decoders]
