"""ONNX Runtime.

Each graph is loaded from its file when it is first needed, so that a host that only decodes never holds the encoder
and external data is mapped by ONNX Runtime instead of passing through Python. A session is checked against
the contract before it runs: an input of another name, shape or dtype is found here with its name, not as a
broadcasting error deep inside the graph. Behind an accelerator the CPU stands in for the operators it does not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import GraphContract, TensorSpec
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import BackendError, BundleError, first_line

from . import BackendOptions
from .graphs import LazyGraphs

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

# On the CPU twice as slow as the addition and normalization that it stands for: 3.4, 1.7 ms at 4,096 x 256 (1.32).
SLOWER_FUSIONS = ["SkipLayerNormFusion"]
PATTERN_BELOW = 128 << 20  # bytes of a graph with its weights; above it memory is what is short

_ERRORS_ONLY = 3  # ONNX Runtime's severities: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64", "tensor(int32)": "int32"}


class OnnxBackend(LazyGraphs["_Graph"]):
    """Runs the two `.onnx` graphs of a bundle.

    Raises:
        BackendError: onnxruntime is not installed, or this build of it lacks the provider.
        BundleError: from the first call of either graph, when it does not keep the contract of the manifest.
    """

    engine = "ONNX Runtime"

    def __init__(self, bundle: Bundle, options: BackendOptions) -> None:
        self._ort = _import_onnxruntime()
        super().__init__(bundle)
        self._threads = options.threads
        self._providers = _provider_chain(options.provider, self._ort.get_available_providers())

    def _load(self, path: Path, contract: GraphContract) -> _Graph:
        session = open_session(self._ort, path, self._threads, self._providers)
        if self._providers[0] not in session.get_providers():
            raise BackendError(
                f"provider '{self._providers[0]}' is in this onnxruntime but could not start on this machine; "
                "check its drivers and libraries, or leave the provider out for the CPU"
            )
        _check_tensors(path, "input", session.get_inputs(), contract.inputs)
        _check_tensors(path, "output", session.get_outputs(), contract.outputs)
        return _Graph(path, session, contract)

    def encode(self, image: Float32) -> Float32:
        """The embeddings (1, C, S/16, S/16) float32 of an image (1, 3, S, S) float32."""
        (embeddings,) = self._encoder.run(image)
        return embeddings

    def decode(
        self,
        image_embeddings: Float32,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
    ) -> tuple[Float32, Float32]:
        """low_res_masks (B, 4, S/4, S/4) and iou_predictions (B, 4); see `Backend.decode`."""
        masks, scores = self._decoder.run(image_embeddings, point_coords, point_labels, mask_input, has_mask_input)
        return masks, scores


def open_session(ort: Any, path: Path, threads: int | None, providers: list[str]) -> Any:
    """A graph as ONNX Runtime computes it fastest here.

    Args:
        ort: the `onnxruntime` module.
        path: the `.onnx` file.
        threads: threads within an operator; None is one a core.
        providers: full names, the wanted one first.

    Raises:
        BackendError: ONNX Runtime does not take the file.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.inter_op_num_threads = 1  # the graphs are chains; there is nothing to run side by side
    # A pattern of allocations is recorded in the first run and held in one piece beside them from the second on. It
    # saves some 5 % of the time, and costs 0.8 GB with ViT-B.
    options.enable_mem_pattern = _bytes(path) < PATTERN_BELOW
    # Threads that have nothing to do look for more work for some 50 ms. Those of the encoder would take the cores from
    # the decoder's, which then needs 23 ms for a click with nano and not 13: they stop with the run.
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
    """Size of a graph with the weights that may lie beside it."""
    return sum(each.stat().st_size for each in (path, path.with_name(f"{path.name}.data")) if each.is_file())


class _Graph:
    """A loaded session and the contract it keeps."""

    def __init__(self, path: Path, session: Any, contract: GraphContract) -> None:
        self._path, self._session, self._contract = path, session, contract

    def run(self, *inputs: Float32) -> list[Float32]:
        """The outputs for inputs in the contract's order."""
        feed = dict(zip(self._contract.input_names, inputs, strict=True))
        try:
            answers: list[Float32] = self._session.run(list(self._contract.output_names), feed)
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed in '{self._path}' ({first_line(error)})") from error
        return answers


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - an extra; only bundles of this target need it
    except ImportError as error:
        raise BackendError(
            f"an ONNX bundle needs onnxruntime ({first_line(error)}); install it with: {TARGETS['onnx'].install}"
        ) from error
    return onnxruntime


def _provider_chain(wanted: str | None, available: list[str]) -> list[str]:
    """The wanted provider, by either of its names, and the CPU behind it."""
    if wanted is None:
        return [_CPU]
    full_names = {name.lower(): name for name in available}
    name = full_names.get(PROVIDERS.get(wanted.strip().lower(), wanted.strip()).lower())
    if name is None:
        short = {full: short for short, full in PROVIDERS.items()}
        choices = ", ".join(short.get(full, full) for full in available)
        raise BackendError(
            f"provider '{wanted}' is not in this onnxruntime, which has: {choices}; "
            "choose one of these or install the onnxruntime package that carries it"
        )
    return [name] if name == _CPU else [name, _CPU]


def _check_tensors(path: Path, role: str, found: list[Any], expected: tuple[TensorSpec, ...]) -> None:
    """Compare a session's inputs or outputs with the contract's.

    A letter of the contract must be a free axis in the graph, and a number that number. An output's axis may be free
    where the contract has a number: converters do not always infer it, and the exporter has checked what comes out.
    """
    tensors = {tensor.name: tensor for tensor in found}
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
            f"'{path}' has an {role} '{next(iter(tensors))}' that the contract does not know; export it again"
        )


def _shape(shape: tuple[Any, ...]) -> str:
    return "(" + ", ".join(str(axis) for axis in shape) + ")"
