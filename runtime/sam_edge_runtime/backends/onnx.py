"""The backend for ONNX Runtime.

ONNX Runtime reads each graph from its file, so external weights are mapped into memory and do not pass through Python.
A session is checked against the contract before its first run, so a wrong name, shape or dtype is reported with the
tensor's name. Operators that an accelerator does not support run on the CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sam_edge_runtime.arrays import Decoded, Features, Float32, TextInputs
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize, GraphContract, TensorSpec, in_contract_order
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import BackendError, BundleError, first_line

from . import BackendOptions
from .graphs import LazyGraphs

TARGET = TARGETS["onnx"]
_CPU = "CPUExecutionProvider"

# Short names of ONNX Runtime's execution providers (https://onnxruntime.ai/docs/execution-providers/).
PROVIDERS: dict[str, str] = {
    "cpu": _CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
}

# On the CPU this fusion takes twice the time of the two operators it replaces: 3.4 against 1.7 ms for 4,096 x 256
# (ONNX Runtime 1.32).
SLOWER_FUSIONS = ["SkipLayerNormFusion"]
PATTERN_BELOW = 128 << 20  # bytes of a graph with its weights; larger graphs save memory instead of time

_FATAL = 4  # log severity; an error is raised as an exception, and a second line of the engine's own would repeat it
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64", "tensor(int32)": "int32"}


class OnnxBackend(LazyGraphs["_Graph"]):
    """Runs the two `.onnx` graphs of a bundle.

    Raises:
        BackendError: onnxruntime is not installed, or its build does not have the provider.
        BundleError: on first use of a graph that breaks the manifest's contract.
    """

    engine = TARGET.engines[0].name

    def __init__(self, bundle: Bundle, options: BackendOptions) -> None:
        self._ort = _import_onnxruntime()
        super().__init__(bundle)
        self._threads = options.threads
        self._providers = _provider_chain(options.provider, self._ort.get_available_providers())

    def _load(self, path: Path, contract: GraphContract, frame: FrameSize) -> _Graph:
        session = self._open(path)
        _check_tensors(path, "input", session.get_inputs(), contract.inputs)
        _check_tensors(path, "output", session.get_outputs(), contract.outputs)
        return _Graph(path, session, contract)

    def _open(self, path: Path) -> Any:
        """A session of a file on the chosen provider."""
        session = open_session(self._ort, path, self._threads, self._providers)
        if self._providers[0] not in session.get_providers():
            raise BackendError(
                f"provider '{self._providers[0]}' is in this onnxruntime but could not start on this machine; "
                "check its drivers and libraries, or leave the provider out for the CPU"
            )
        return session

    def encode(self, image: Float32) -> Features:
        """The features of a photo; see `Backend.encode`."""
        return tuple(self._encoder_for(image).run(image))

    def decode(
        self,
        features: Features,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
        text: TextInputs | None = None,
    ) -> Decoded:
        """Masks and scores of B prompts; see `Backend.decode`."""
        prompts = (point_coords, point_labels, mask_input, has_mask_input, *(text or ()))
        inputs = in_contract_order(self._bundle.manifest.conventions, features, *prompts)
        return Decoded(*self._decoder_for(features).run(*inputs))


def open_session(ort: Any, path: Path, threads: int | None, providers: list[str]) -> Any:
    """A session with the options that were measured to be fastest for SAM's graphs.

    Args:
        ort: the `onnxruntime` module.
        path: the `.onnx` file.
        threads: threads within an operator; None: one for each core.
        providers: full names, the preferred one first.

    Raises:
        BackendError: ONNX Runtime rejects the file.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.inter_op_num_threads = 1  # the graphs are chains without parallel branches
    # The memory pattern allocates all tensors of a run in one block from the second run on. It saves about 5 % of the
    # time and takes another 0.8 GB for ViT-B.
    options.enable_mem_pattern = _bytes(path) < PATTERN_BELOW
    # Idle threads spin for about 50 ms after a run. The encoder's would compete with the decoder's, which then takes
    # 23 instead of 13 ms for a click (nano).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(
            str(path), sess_options=options, providers=providers, disabled_optimizers=SLOWER_FUSIONS
        )
    except Exception as error:
        raise BackendError(f"ONNX Runtime cannot load '{path}' ({first_line(error)}); export it again") from error


def _bytes(path: Path) -> int:
    """Size of a graph in bytes, with its external weights if it has any; frames share those of the first one's file."""
    shared = path.with_name(f"{path.stem.partition('_')[0]}{path.suffix}.data")
    return sum(each.stat().st_size for each in (path, shared) if each.is_file())


class _Graph:
    """A session and the contract of its graph."""

    def __init__(self, path: Path, session: Any, contract: GraphContract) -> None:
        self._path, self._session, self._contract = path, session, contract

    def run(self, *inputs: Float32) -> list[Float32]:
        """The outputs for inputs in the contract's order."""
        feed = dict(zip(self._contract.input_names, inputs, strict=True))
        try:
            outputs: list[Float32] = self._session.run(list(self._contract.output_names), feed)
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed in '{self._path}' ({first_line(error)})") from error
        return outputs


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - an extra that only bundles of this target need
    except ImportError as error:
        raise BackendError(
            f"an ONNX bundle needs onnxruntime ({first_line(error)}); install it with: {TARGET.install}"
        ) from error
    return onnxruntime


def _provider_chain(wanted: str | None, available: list[str]) -> list[str]:
    """Full names of the wanted provider, given by its short or full name, and of the CPU."""
    if wanted is None:
        return [_CPU]
    full_names = {name.lower(): name for name in available}
    name = full_names.get(PROVIDERS.get(wanted.strip().lower(), wanted.strip()).lower())
    if name is None:
        short = {full: short for short, full in PROVIDERS.items()}
        choices = ", ".join(short.get(full, full) for full in available)
        raise BackendError(
            f"provider '{wanted}' is not in this onnxruntime, which has: {choices}; "
            "choose one of these, or install the onnxruntime package that has it"
        )
    return [name] if name == _CPU else [name, _CPU]


def _check_tensors(path: Path, role: str, arguments: list[Any], expected: tuple[TensorSpec, ...]) -> None:
    """Compare a session's inputs or outputs with the contract.

    A letter in the contract requires a free axis, a number that size. An output's axis may also be free where the
    contract has a number: converters do not always infer it, and the exporter has checked the outputs.
    """
    tensors = {tensor.name: tensor for tensor in arguments}
    for spec in expected:
        if spec.name not in tensors:
            raise BundleError(
                f"'{path}' has no {role} '{spec.name}'; its {role}s are {', '.join(tensors) or 'none'}; export it again"
            )
        tensor = tensors.pop(spec.name)
        dtype, shape = _DTYPES.get(tensor.type, tensor.type), tuple(tensor.shape)
        if dtype != spec.dtype:
            raise BundleError(
                f"{role} '{spec.name}' of '{path}' is {dtype} where the contract has {spec.dtype}; export it again"
            )
        axes_fit = [
            axis == size
            if isinstance(size, int) and isinstance(axis, int)
            else not isinstance(axis, int) and (isinstance(size, str) or role == "output")
            for axis, size in zip(shape, spec.shape, strict=False)
        ]
        if len(shape) != len(spec.shape) or not all(axes_fit):
            raise BundleError(
                f"{role} '{spec.name}' of '{path}' has shape {_shape(shape)} where the contract has "
                f"{_shape(spec.shape)}; export it again"
            )
    if tensors:
        raise BundleError(
            f"'{path}' has an {role} '{next(iter(tensors))}' that is not in the contract; export it again"
        )


def _shape(shape: tuple[Any, ...]) -> str:
    return "(" + ", ".join(str(axis) for axis in shape) + ")"
