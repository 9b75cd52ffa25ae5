"""Small packages written by coremltools: compressed weights, float16, flexible axes, quantized activations.

The evaluator's outputs equal torch's with the weights that coremltools decompresses, and on a Mac those of Apple's
framework.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # coremltools does not know this torch yet
    import coremltools as ct
    import coremltools.optimize.coreml as cto
    from coremltools.converters.mil.mil import Builder, types
    from coremltools.optimize._utils import pack_elements_into_bits

from sam_edge_runtime.errors import BackendError, BundleError
from sam_edge_runtime.mil import Program, read_package
from sam_edge_runtime.mil.constants import unpacked
from sam_edge_runtime.mil.package import Reference
from sam_edge_runtime.system.quiet import no_logging

SHAPE = (1, 32, 4, 4)
Model = Any  # coremltools' MLModel


class Small(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 16, 3, padding=1)
        self.linear = nn.Linear(16, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(x).relu().permute(0, 2, 3, 1))


def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(autouse=True)
def quiet():
    """Silences coremltools, which logs to the root logger, warns about itself and draws progress bars."""
    with no_logging(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def converted(target: str, fp16: bool = False, flexible: bool = False) -> Model:
    axes = ({2: torch.export.Dim("height", min=2, max=64)},) if flexible else None
    program = torch.export.export(small(), (torch.zeros(SHAPE),), dynamic_shapes=axes)
    return ct.convert(
        program.run_decompositions({}),
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, target),
        compute_precision=ct.precision.FLOAT16 if fp16 else ct.precision.FLOAT32,
        inputs=None if flexible else [ct.TensorType(name="x", shape=SHAPE)],
        outputs=[ct.TensorType(name="y")],
        skip_model_load=True,
    )


def linear(**given: Any) -> Callable[[Model], Model]:
    config = cto.OpLinearQuantizerConfig(weight_threshold=0, **given)
    return lambda model: cto.linear_quantize_weights(model, cto.OptimizationConfig(config))


def palette(**given: Any) -> Callable[[Model], Model]:
    config = cto.OpPalettizerConfig(weight_threshold=0, mode="uniform", **given)
    return lambda model: cto.palettize_weights(model, cto.OptimizationConfig(config))


def pruned(model: Model) -> Model:
    config = cto.OpMagnitudePrunerConfig(weight_threshold=0, target_sparsity=0.5)
    return cto.prune_weights(model, cto.OptimizationConfig(config))


def pruned_palette(model: Model) -> Model:
    config = cto.OptimizationConfig(cto.OpPalettizerConfig(weight_threshold=0, mode="uniform", nbits=4))
    return cto.palettize_weights(pruned(model), config, joint_compression=True)


def pruned_linear(model: Model) -> Model:
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(weight_threshold=0, mode="linear_symmetric"))
    return cto.linear_quantize_weights(pruned(model), config, joint_compression=True)


SCHEMES: dict[str, Callable[[Model], Model]] = {
    "int8 by channel": linear(mode="linear_symmetric", dtype="int8"),
    "uint8 by channel": linear(mode="linear", dtype="uint8"),
    "uint8 by tensor": linear(mode="linear", dtype="uint8", granularity="per_tensor"),
    "palette of 1 bit": palette(nbits=1),
    "palette of 2 bits": palette(nbits=2),
    "palette of 4 bits": palette(nbits=4),
    "palette of 6 bits": palette(nbits=6),
    "palette of 8 bits": palette(nbits=8),
    "sparse": pruned,
}
IOS18_SCHEMES: dict[str, Callable[[Model], Model]] = {
    "int4 by block": linear(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=8),
    "uint4 by block": linear(mode="linear", dtype="uint4", granularity="per_block", block_size=4),
    "palette of 3 bits by group": palette(nbits=3, granularity="per_grouped_channel", group_size=4),
    "sparse palette": pruned_palette,
    "sparse int8": pruned_linear,
}
CASES = [
    *((target, scheme, False) for target in ("iOS16", "iOS18") for scheme in SCHEMES),
    *(("iOS17", scheme, False) for scheme in ("int8 by channel", "palette of 6 bits", "sparse")),
    *(("iOS18", scheme, False) for scheme in IOS18_SCHEMES),
    *((target, "int8 by channel", True) for target in ("iOS16", "iOS17", "iOS18")),
    ("iOS17", "palette of 4 bits", True),
    ("iOS18", "int4 by block", True),
    ("iOS18", "sparse palette", True),
]
_MODELS: dict[tuple[str, bool], Model] = {}


def compressed(target: str, scheme: str, fp16: bool) -> Model:
    if (target, fp16) not in _MODELS:
        _MODELS[target, fp16] = converted(target, fp16)
    return (SCHEMES | IOS18_SCHEMES)[scheme](_MODELS[target, fp16])


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def saved(model: Model, folder: Path, name: str = "small") -> Path:
    path = folder / f"{name}.mlpackage"
    model.save(str(path))
    return path


def computed(path: Path, x: np.ndarray) -> np.ndarray:
    """The evaluator's output."""
    (output,) = Program(read_package(path)).run({"x": x}).values()
    return output


def by_apple(path: Path, x: np.ndarray) -> np.ndarray:
    model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit.CPU_ONLY)
    (output,) = model.predict({"x": x}).values()
    return np.asarray(output, np.float32)


def torch_output(model: Model, folder: Path, x: np.ndarray) -> np.ndarray:
    """Torch's output with the weights that coremltools decompresses."""
    dense = read_package(saved(cto.decompress_weights(model), folder, "dense"))
    assert not any(operation.op_type.startswith("constexpr_") for operation in dense.operations)
    weights = {each.op_type: each.inputs for each in dense.operations if each.op_type in {"conv", "linear"}}
    conv = {name: torch.tensor(np.asarray(weights["conv"][name], np.float32)) for name in ("weight", "bias")}
    full = {name: torch.tensor(np.asarray(weights["linear"][name], np.float32)) for name in ("weight", "bias")}
    hidden = F.conv2d(torch.from_numpy(x), conv["weight"], conv["bias"], padding=1).relu()
    return F.linear(hidden.permute(0, 2, 3, 1), full["weight"], full["bias"]).numpy()


ON_A_MAC = pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on a Mac only")


@pytest.mark.parametrize(("target", "scheme", "fp16"), CASES)
def test_compressed_weights_equal_those_that_coremltools_decompresses(target, scheme, fp16, tmp_path):
    model, x = compressed(target, scheme, fp16), image(*SHAPE)
    path = saved(model, tmp_path)
    types_of = [operation.op_type for operation in read_package(path).operations]
    assert sum(op_type.startswith("constexpr_") for op_type in types_of) >= 2
    bound = 4e-3 if fp16 else 1e-5
    np.testing.assert_allclose(computed(path, x), torch_output(model, tmp_path, x), rtol=bound, atol=bound)


def activations() -> Model:
    """Activations that are quantized and dequantized, per tensor and per channel."""

    def body(x):
        scales = np.linspace(0.01, 0.05, 32).astype(np.float32)
        quantized = Builder.quantize(input=x, scale=np.float32(0.02), zero_point=np.uint8(100), output_dtype="uint8")
        back = Builder.dequantize(input=quantized, scale=np.float32(0.02), zero_point=np.uint8(100))
        by_channel = Builder.quantize(input=back, scale=scales, axis=1, output_dtype="int8")
        return Builder.dequantize(input=by_channel, scale=scales, axis=1, name="y")

    spec = Builder.TensorSpec(shape=SHAPE, dtype=types.fp32)
    program = Builder.program(input_specs=[spec], opset_version=ct.target.iOS17)(body)
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )


def one_in_a_list() -> Model:
    def body(x):
        return Builder.concat(values=[Builder.stack(values=[x], axis=0)], axis=1, name="y")

    program = Builder.program(input_specs=[Builder.TensorSpec(shape=SHAPE)], opset_version=ct.target.iOS17)(body)
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("count", [1, 7, 24, 101])
def test_values_that_coremltools_packs_are_unpacked(bits, count):
    numbers = np.random.default_rng(bits).integers(0, 1 << bits, count).astype(np.uint8)
    np.testing.assert_array_equal(unpacked(pack_elements_into_bits(numbers, bits), bits, count), numbers)


def few_weights(bits: int) -> Model:
    """So few weights, int4 or indices of a palette, that they are immediate values of the program."""

    def body(x):
        drawn = np.random.default_rng(0)
        if bits == 4:
            whole = drawn.integers(-8, 8, (4, 2)).astype(types.nptype_from_builtin(types.int4))
            scale = np.linspace(0.1, 0.8, 8).astype(np.float32).reshape(4, 2)
            weight = Builder.constexpr_blockwise_shift_scale(data=whole, scale=scale, offset=whole[::-1].copy())
        else:
            kind = types.nptype_from_builtin(types.string_to_builtin(f"uint{bits}"))
            table = drawn.standard_normal((1, 1, 1 << bits, 1)).astype(np.float32)
            weight = Builder.constexpr_lut_to_dense(
                indices=drawn.integers(0, 1 << bits, (4, 2)).astype(kind), lut=table
            )
        wanted.append(weight.op.materialized_val_inference())
        return Builder.matmul(x=x, y=weight, name="y")

    wanted: list[np.ndarray] = []
    program = Builder.program(input_specs=[Builder.TensorSpec(shape=SHAPE)], opset_version=ct.target.iOS18)(body)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.wanted = wanted[0]
    return model


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_few_packed_weights_are_immediate_values(bits, tmp_path):
    model, x = few_weights(bits), image(*SHAPE)
    path = saved(model, tmp_path)
    text = str(model.get_spec().mlProgram)
    assert ("INT4" if bits == 4 else f"UINT{bits}") in text
    assert text.count("blobFileValue") == (1 if bits == 6 else 0)  # its table of 64
    np.testing.assert_allclose(computed(path, x), x @ model.wanted, rtol=1e-6, atol=1e-6)


def test_values_that_do_not_fill_their_shape_are_damage(tmp_path):
    path = saved(few_weights(2), tmp_path)
    file = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    table = next(each for each in block.operations if each.type.startswith("constexpr_")).inputs["lut"]
    del table.arguments[0].value.immediateValue.tensor.floats.values[-1]
    file.write_bytes(spec.SerializeToString())
    with pytest.raises(BundleError, match=r"model\.mlmodel' is damaged .*export it again"):
        read_package(path)


def test_a_reference_to_a_tensor_that_does_not_exist_is_named(tmp_path):
    package = read_package(saved(converted("iOS17"), tmp_path))
    last = package.operations[-1]
    renamed = {
        name: Reference("cofcat_0") if isinstance(value, Reference) else value for name, value in last.inputs.items()
    }
    broken = replace(package, operations=(*package.operations[:-1], replace(last, inputs=renamed)))
    with pytest.raises(BackendError, match="refers to 'cofcat_0', which no operation computes: export it again"):
        Program(broken).run({name: image(*SHAPE) for name in package.inputs})


def test_quantized_activations_equal_numpy(tmp_path):
    x = image(*SHAPE)
    scales = np.linspace(0.01, 0.05, 32).astype(np.float32).reshape(-1, 1, 1)
    first = (np.clip(np.rint(x / np.float32(0.02)) + 100, 0, 255) - 100) * np.float32(0.02)
    second = np.clip(np.rint(first / scales), -128, 127) * scales
    path = saved(activations(), tmp_path)
    assert [each.op_type for each in read_package(path).operations] == ["quantize", "dequantize"] * 2
    np.testing.assert_allclose(computed(path, x), second, rtol=1e-6, atol=1e-6)


def test_a_list_of_one_tensor_stays_a_list(tmp_path):
    x = image(*SHAPE)
    path = saved(one_in_a_list(), tmp_path)
    assert [each.op_type for each in read_package(path).operations] == ["stack", "concat"]
    np.testing.assert_array_equal(computed(path, x), x[None])


@pytest.mark.parametrize("height", [2, 4, 9])
def test_a_flexible_axis_takes_any_size(height, tmp_path):
    path = saved(converted("iOS17", flexible=True), tmp_path)
    package = read_package(path)
    assert package.inputs == {"x": ((1, 32, None, 4), "float32")}
    x = image(1, 32, height, 4)
    with torch.no_grad():
        np.testing.assert_allclose(computed(path, x), small()(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-5)


def test_float16_has_the_precision_of_float16(tmp_path):
    x = image(*SHAPE)
    path = saved(converted("iOS17", fp16=True), tmp_path)
    found = computed(path, x)
    with torch.no_grad():
        expected = small()(torch.from_numpy(x)).numpy()
    assert 1e-5 < np.abs(found - expected).max() < 4e-3


# Apple's framework ----------------------------------------------------------------------------------------------------


@ON_A_MAC
@pytest.mark.parametrize(("target", "scheme", "fp16"), CASES)
def test_apple_s_framework_computes_compressed_weights_alike(target, scheme, fp16, tmp_path):
    x = image(*SHAPE)
    path = saved(compressed(target, scheme, fp16), tmp_path)
    bound = 8e-3 if fp16 else 1e-4
    np.testing.assert_allclose(by_apple(path, x), computed(path, x), rtol=bound, atol=bound)


@ON_A_MAC
@pytest.mark.parametrize(
    ("make", "height"),
    [
        (activations, 4),
        (one_in_a_list, 4),
        (lambda: converted("iOS17", flexible=True), 4),
        (lambda: converted("iOS17", flexible=True), 9),
        (lambda: converted("iOS17", fp16=True), 4),
        (lambda: few_weights(3), 4),
        (lambda: few_weights(4), 4),
    ],
    ids=[
        "activations",
        "list of one",
        "flexible axis at 4",
        "flexible axis at 9",
        "float16",
        "few of 3 bits",
        "few of 4",
    ],
)
def test_apple_s_framework_computes_the_other_packages_alike(make, height, tmp_path):
    x = image(1, 32, height, 4)
    path = saved(make(), tmp_path)
    np.testing.assert_allclose(by_apple(path, x), computed(path, x), rtol=8e-3, atol=8e-3)
