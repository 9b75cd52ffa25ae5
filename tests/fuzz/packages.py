"""A small Core ML package, with a convolution, a normalization, and compressed weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def small_package(path: Path) -> Path:
    """Write the package with coremltools and return its path."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - coremltools' own name for it
    from coremltools.optimize import coreml as cto

    generator = np.random.default_rng(0)
    weight = generator.standard_normal((6, 3, 3, 3)).astype(np.float32)
    matrix = generator.standard_normal((4, 4)).astype(np.float32)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 4, 4))], opset_version=ct.target.iOS17)
    def program(x):
        made = mb.conv(x=x, weight=weight, pad_type="same", name="conv")
        made = mb.gelu(x=made, mode="EXACT")
        made = mb.layer_norm(x=made, axes=[1], name="norm")
        made = mb.matmul(x=mb.reshape(x=made, shape=[1, 6, 2, 8]), y=mb.reshape(x=made, shape=[1, 6, 8, 2]))
        made = mb.softmax(x=mb.concat(values=[made, made], axis=-1), axis=-1)
        made = mb.matmul(x=made, y=matrix)
        made = mb.slice_by_index(x=made, begin=[0, 1, 0, 0], end=[1, 5, 2, 4], name="slice")
        return mb.reduce_mean(x=mb.transpose(x=made, perm=[0, 2, 3, 1]), axes=[1], name="y")

    model = ct.convert(
        program,
        source="milinternal",
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
        compute_precision=ct.precision.FLOAT32,
    )
    # Uniform look-up tables need no k-means, for which coremltools would start processes.
    config = cto.OptimizationConfig(cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0))
    cto.palettize_weights(model, config).save(str(path))
    return path
