"""The manifest describes a bundle in one JSON file, `manifest.json`.

`Manifest` is the object; JSON is its serial form. Reading checks every field. The file contains the full tensor
contract for people who embed the models; it must equal the contract that the sizes imply. A digest detects any other
edit. It protects against accidents, not against somebody who recomputes it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from sam_edge_runtime.errors import BundleError, UsageError

from .contract import (
    FrameSize,
    GraphContract,
    Layout,
    decoder_contract,
    decoder_signature,
    encoder_contract,
    frame_signature,
    side_is_supported,
)
from .conventions import SAM, Conventions
from .document import (
    FILE_NAME,
    FORMAT,
    check_tensors,
    digest_of,
    frames_of,
    interface_of,
    layout_of,
    read_document,
    target_of,
    version_for,
)
from .fields import Fields
from .official import (
    OFFICIAL_POSTPROCESSING,
    OFFICIAL_PREPROCESSING,
    OFFICIAL_SINGLE_MASK,
    SAM_EDGE,
    official_decoder_contract,
    official_encoder_contract,
)
from .processing import processing
from .targets import target_named
from .text import TextPart

LARGEST_CAPACITY = 4096  # prompts of a call and slots of a prompt; beyond it the masks of one call exceed 4 GB
PLAIN, NEURAL_ENGINE = "plain", "ane"
GRAPHS = (PLAIN, NEURAL_ENGINE)  # forms of the two graphs; both compute the same outputs
RANDOM_WEIGHTS_NOTE = "random weights: structure and speed mean something, masks do not"


@dataclass(frozen=True)
class Checkpoint:
    """The origin of the weights.

    Attributes:
        source: name of the weight file, or `random:SEED`.
        sha256: of the file, in hexadecimal; None for random weights.
        random: whether the weights are random.
    """

    source: str
    sha256: str | None
    random: bool

    @property
    def described(self) -> str:
        """The source for reports, with a warning where weights are random."""
        return f"{self.source} ({RANDOM_WEIGHTS_NOTE})" if self.random else self.source


@dataclass(frozen=True)
class FileRecord:
    """SHA-256 in hexadecimal and size in bytes of one file of the bundle."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Everything that a runtime needs to know before it loads the graphs of a bundle.

    Attributes:
        variant: model variant, such as `vit_b`.
        parameters: number of trained parameters of the model.
        licence: SPDX identifier of the weights' licence.
        checkpoint: origin of the weights.
        target: a key of `TARGETS`: `onnx`, `coreml` or `tflite`.
        precision: quantization scheme, such as `fp32`; `auto` for a recipe that was searched for, `custom` for one
            from a file.
        recipe: the quantization recipe, as `sam_edge_quant.Recipe.to_json` returns it.
        input_side: the longer side S of every frame in pixels: a multiple of 64 from 256 to 1024.
        embedding_channels: channels C of the image embedding.
        prompts: fixed number of prompts B in a call, or the largest of `batches`; None: any number.
        points: fixed number of slots N of a prompt; None: any number.
        encoder: file or folder of the image encoder, relative to the bundle.
        decoder: file or folder of the mask decoder, relative to the bundle.
        files: hash and size of every file of the bundle except the manifest, by POSIX path.
        tools: versions of the packages that made the bundle, by name.
        layout: axis order of photos and embeddings.
        batches: numbers of prompts that a call may have, ascending, where the decoder has a signature for each of
            several; else empty.
        graph: `plain`, or `ane` for graphs rewritten for Apple's Neural Engine; both compute the same outputs.
        calibration: photos that ranges of activations were measured on, with their hashes; empty where none were.
        picture_input: whether the encoder takes a picture of 8-bit RGB (Core ML's ImageType) instead of a tensor.
        frames: sizes of the frames that the bundle has graphs for, without doubles; given as `()`, the square of side
            S.
        interface: `sam-edge` for graphs with the tensors of `contract.py`, or `official` or `official-single-mask` for
            those of `official.py`.
        conventions: what the model's family does differently from SAM 1.
        text: what turns words into text embeddings; None where the bundle has nothing that does.
    """

    variant: str
    parameters: int
    licence: str
    checkpoint: Checkpoint
    target: str
    precision: str
    recipe: dict[str, Any]
    input_side: int
    embedding_channels: int
    prompts: int | None
    points: int | None
    encoder: str
    decoder: str
    files: dict[str, FileRecord]
    tools: dict[str, str] = field(default_factory=dict)
    layout: Layout = Layout.NCHW
    batches: tuple[int, ...] = ()
    graph: str = PLAIN
    picture_input: bool = False
    calibration: dict[str, Any] = field(default_factory=dict)
    interface: str = SAM_EDGE
    frames: tuple[FrameSize, ...] = ()
    conventions: Conventions = SAM
    text: TextPart | None = None

    def __post_init__(self) -> None:
        if not self.frames:
            object.__setattr__(self, "frames", (FrameSize.square(self.input_side),))

    @property
    def frame(self) -> FrameSize:
        """The first frame; the one of the contracts below."""
        return self.frames[0]

    @property
    def encoder_contract(self) -> GraphContract:
        """Inputs and outputs of the image encoder, as a `Backend` takes and returns them."""
        return encoder_contract(self.frame, self.embedding_channels, self.layout, self.conventions)

    @property
    def decoder_contract(self) -> GraphContract:
        """Inputs and outputs of the mask decoder, as a `Backend` takes and returns them."""
        return decoder_contract(
            self.frame, self.embedding_channels, self.prompts, self.points, self.layout, self.conventions
        )

    @property
    def encoder_file_contract(self) -> GraphContract:
        """Inputs and outputs in the image encoder's file; in the official layout others than `encoder_contract`'s."""
        if self.interface == SAM_EDGE:
            return self.encoder_contract
        return official_encoder_contract(self.input_side, self.embedding_channels)

    @property
    def decoder_file_contract(self) -> GraphContract:
        """Inputs and outputs in the mask decoder's file; in the official layout others than `decoder_contract`'s."""
        if self.interface == SAM_EDGE:
            return self.decoder_contract
        single = self.interface == OFFICIAL_SINGLE_MASK
        return official_decoder_contract(self.input_side, self.embedding_channels, single_mask=single)

    def require_own_tensors(self, user: str) -> None:
        """Check that the files have the tensors of `contract.py`.

        Args:
            user: command or option that feeds the files by itself, for the message.

        Raises:
            UsageError: the bundle has the official layout.
        """
        if self.interface != SAM_EDGE:
            raise UsageError(
                f"{user} needs a bundle with sam-edge's own tensors, and this one has the official layout: export it "
                "again without --layout official"
            )

    @property
    def encoder_signatures(self) -> dict[str, GraphContract]:
        """Inputs and outputs of the encoder for each frame, by its signature's name; empty for a single frame."""
        if len(self.frames) == 1:
            return {}
        return {frame_signature(each.frame): each.encoder_contract for each in self.each_frame()}

    @property
    def decoder_signatures(self) -> dict[str, GraphContract]:
        """Inputs and outputs of each signature of the decoder, by its name; empty where the decoder has only one."""
        signatures = {}
        for of_frame in self.each_frame():
            parts = (frame_signature(of_frame.frame),) if len(self.frames) > 1 else ()
            for capacity in of_frame.each_capacity():
                called = (*parts, decoder_signature(capacity.prompts or 1)) if self.batches else parts
                if called:
                    signatures["_".join(called)] = capacity.decoder_contract
        return signatures

    @property
    def call_sizes(self) -> tuple[int, ...]:
        """Numbers of prompts that a call may have, ascending; empty: any."""
        return self.batches or (() if self.prompts is None else (self.prompts,))

    @property
    def size(self) -> int:
        """Bytes of all files of the bundle except the manifest."""
        return sum(record.bytes for record in self.files.values())

    def of_any_capacity(self) -> Manifest:
        """A copy with the limits of the fp32 torch model: any number of prompts, and of slots where that is free."""
        return replace(self, prompts=None, points=self.conventions.slots, batches=())

    def each_capacity(self) -> tuple[Manifest, ...]:
        """A copy for each number of prompts in `batches`, with that number fixed; this manifest where it is empty."""
        return tuple(replace(self, prompts=size, batches=()) for size in self.batches) or (self,)

    def each_frame(self) -> tuple[Manifest, ...]:
        """A copy for each frame, with that frame alone and the files of its graphs."""
        if len(self.frames) == 1:
            return (self,)
        return tuple(
            replace(
                self,
                frames=(frame,),
                encoder=self._file_of(self.encoder, frame),
                decoder=self._file_of(self.decoder, frame),
            )
            for frame in self.frames
        )

    def of_frame(self, frame: FrameSize) -> Manifest:
        """The copy of `each_frame` for `frame`, one of `frames`."""
        return next(each for each in self.each_frame() if each.frame == frame)

    def _file_of(self, name: str, frame: FrameSize) -> str:
        """The file of a frame's graph: for all but the first, `encoder.onnx` becomes `encoder_1024x768.onnx`."""
        if frame == self.frame or not target_named(self.target).file_per_frame:
            return name
        path = PurePosixPath(name)
        return str(path.with_name(f"{path.stem}_{frame.name}{path.suffix}"))

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        body = self._body()
        return json.dumps({"digest": digest_of(body), **body}, indent=2) + "\n"

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "format": FORMAT,
            "format_version": version_for(frames=self._has_frames, conventions=self.conventions),
            "model": {
                "variant": self.variant,
                "parameters": self.parameters,
                "licence": self.licence,
                "checkpoint": asdict(self.checkpoint),
            },
            "target": self.target,
            "precision": self.precision,
            "recipe": self.recipe,
            **({"calibration": self.calibration} if self.calibration else {}),
            "input_side": self.input_side,
            "embedding_channels": self.embedding_channels,
            "layout": self.layout.value,
            "graph": self.graph,
            "picture_input": self.picture_input,
            **({} if self.interface == SAM_EDGE else {"interface": self.interface}),
            **({} if self.conventions == SAM else {"conventions": self.conventions.to_json()}),
            "capacity": {
                "prompts": self.prompts,
                "points": self.points,
                **({"batches": list(self.batches)} if self.batches else {}),
            },
            **self.each_frame()[0]._graphs_json(),
            **({"frames": self._frames_json()} if self._has_frames else {}),
            **({} if self.text is None else {"text": self.text.to_json()}),
            **self._processing_json(),
            "files": {name: asdict(record) for name, record in sorted(self.files.items())},
            "tools": self.tools,
        }
        if self.checkpoint.random:
            body["note"] = RANDOM_WEIGHTS_NOTE
        return body

    @property
    def _has_frames(self) -> bool:
        """Whether there is another frame than the square."""
        return self.frames != (FrameSize.square(self.input_side),)

    def _graphs_json(self) -> dict[str, Any]:
        """File and contract of both graphs, of the first frame."""
        return {
            "encoder": {"file": self.encoder, **asdict(self.encoder_file_contract)},
            "decoder": {"file": self.decoder, **asdict(self.decoder_file_contract)},
        }

    def _frames_json(self) -> list[dict[str, Any]]:
        return [
            {"height": each.frame.height, "width": each.frame.width, **each._graphs_json()}
            for each in self.each_frame()
        ]

    def _processing_json(self) -> dict[str, Any]:
        if self.interface != SAM_EDGE:
            return {"preprocessing": OFFICIAL_PREPROCESSING, "postprocessing": OFFICIAL_POSTPROCESSING}
        before, after = processing(self.conventions, frames=self._has_frames)
        return {"preprocessing": before, "postprocessing": after}

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read and check the text of a `manifest.json`.

        Raises:
            BundleError: the text is not JSON, no manifest, of a newer format, or was edited.
        """
        try:
            return cls._checked(read_document(text))
        except RecursionError as error:
            raise BundleError(f"{FILE_NAME} is nested too deeply: export the bundle again") from error

    @classmethod
    def _checked(cls, document: dict[str, Any]) -> Manifest:
        manifest = cls._parse(Fields(document, FILE_NAME))
        manifest._check_conventions()
        if manifest.text is not None:
            manifest.text.check(manifest.conventions.text_channels, manifest.files, FILE_NAME)
        each_frame = manifest.each_frame()
        _check_graphs("", document, each_frame[0])
        for index, graphs in enumerate(document.get("frames", ())):
            _check_graphs(f"frames.{index}.", graphs, each_frame[index])
        body = {key: value for key, value in document.items() if key != "digest"}
        if document.get("digest") != digest_of(body):
            raise BundleError(f"{FILE_NAME} does not match its digest: it was edited; export the bundle again")
        return manifest

    def _check_conventions(self) -> None:
        """Refuse frames and layouts that the conventions exclude."""
        conventions = self.conventions
        if self.interface != SAM_EDGE and (
            conventions.features
            or conventions.object_score
            or not conventions.mask_prompts
            or conventions.image_stride > 1
            or conventions.text_channels is not None
        ):
            raise BundleError(f"{FILE_NAME}: interface {self.interface} is not for these conventions: export it again")
        if conventions.slots not in (None, self.points):
            raise BundleError(
                f"{FILE_NAME}: {self.points} points are not the {conventions.slots} slots of the conventions: export "
                "the bundle again"
            )
        if conventions.stretched and self._has_frames:
            raise BundleError(f"{FILE_NAME}: photos are stretched, and a frame is no square: export the bundle again")

    @classmethod
    def _parse(cls, top: Fields) -> Manifest:
        model, capacity, files = top.section("model"), top.section("capacity"), top.section("files")
        checkpoint = model.section("checkpoint")
        side = top.integer("input_side")
        if not side_is_supported(side):
            raise BundleError(
                f"{FILE_NAME}: input_side {side} is not a multiple of 64 from 256 to 1024: export the bundle again"
            )
        return cls(
            variant=model.text("variant"),
            parameters=model.integer("parameters"),
            licence=model.text("licence"),
            checkpoint=Checkpoint(
                checkpoint.text("source"), checkpoint.optional_text("sha256"), checkpoint.flag("random")
            ),
            target=target_of(top),
            precision=top.text("precision"),
            recipe=top.section("recipe").mapping,
            input_side=side,
            embedding_channels=top.integer("embedding_channels", most=LARGEST_CAPACITY),
            prompts=capacity.optional_integer("prompts", most=LARGEST_CAPACITY),
            points=capacity.optional_integer("points", most=LARGEST_CAPACITY),
            encoder=top.section("encoder").text("file"),
            decoder=top.section("decoder").text("file"),
            files={
                name: FileRecord(files.section(name).text("sha256"), files.section(name).integer("bytes", least=0))
                for name in files.mapping
            },
            tools={name: top.section("tools").text(name) for name in top.section("tools").mapping},
            layout=layout_of(top),
            graph=_graph(top),
            picture_input=top.mapping.get("picture_input") is not None and top.flag("picture_input"),
            batches=capacity.ascending("batches", last=capacity.optional_integer("prompts")),
            calibration=top.section("calibration").mapping if "calibration" in top.mapping else {},
            interface=interface_of(top),
            frames=frames_of(top, side),
            conventions=Conventions.read(top.section("conventions")) if "conventions" in top.mapping else SAM,
            text=TextPart.read(top.section("text")) if "text" in top.mapping else None,
        )


def _check_graphs(place: str, document: dict[str, Any], manifest: Manifest) -> None:
    """Compare the sections `encoder` and `decoder` at `place` with files and contracts of a manifest of one frame."""
    for name, file, contract in (
        ("encoder", manifest.encoder, manifest.encoder_file_contract),
        ("decoder", manifest.decoder, manifest.decoder_file_contract),
    ):
        section = document.get(name)
        if not isinstance(section, dict) or section.get("file") != file:
            raise BundleError(
                f"{FILE_NAME}: {place}{name} does not name the file {file!r:.200}: export the bundle again"
            )
        check_tensors(f"{place}{name}", section, contract)


def _graph(top: Fields) -> str:
    """The form of the graphs; older bundles do not name it and are plain."""
    name = top.optional_text("graph") or PLAIN
    if name not in GRAPHS:
        raise BundleError(f"{FILE_NAME}: graph {name!r:.60} is unknown: export the bundle again")
    return name
