"""Write a checkpoint's tensors into one safetensors file, under the official names or transformers'.

Numbers keep the precision that they have in the checkpoint; weights with a merged adapter are float32. What the
checkpoint holds beside the model is not written.
"""

from __future__ import annotations

from pathlib import Path

from sam_edge_runtime.errors import CheckpointError, UsageError
from sam_edge_runtime.system.files import check_file, require_space, write_file

from .families import build_empty
from .fit import check_fit
from .layouts import check_layout, from_official
from .recognition import Recognized, read_checkpoint, recognize
from .source import CheckpointSource

SUFFIX = ".safetensors"
# transformers refuses files that do not say which framework wrote them.
METADATA = {"format": "pt"}
_BYTES_OF_HEADER = 1 << 20


def convert(source: CheckpointSource, out: Path, layout: str, *, overwrite: bool = False) -> Recognized:
    """Write the model in `source` to `out`.

    Args:
        source: a file, a folder or a repository.
        out: a `.safetensors` file.
        layout: `official` or `hf`.
        overwrite: replace `out` if it exists.

    Returns:
        What was read and written.

    Raises:
        UsageError: `out` has another suffix, there is no such layout, or the model's family has no names in it.
        CheckpointError: the weights cannot be read, fit no model, or hold numbers that are not finite.
        OutputError: `out` exists, or cannot be written.
    """
    check_layout(layout)
    if out.suffix != SUFFIX:
        raise UsageError(f"{out} is no {SUFFIX} file, which is all that is written: name it so")
    if source.is_random:
        raise UsageError(f"{source.label} is no file: name the weights to convert")
    check_file(out, overwrite=overwrite)
    try:
        from safetensors.torch import save  # noqa: PLC0415  # torch's own files do not need it
    except ImportError as error:
        raise CheckpointError(f"{out.name} needs safetensors: pip install safetensors") from error
    found = recognize(read_checkpoint(source))
    chosen = next((each for each in found.family.layouts if each.name == layout), None)
    if chosen is None:
        choices = " or ".join(each.name for each in found.family.layouts)
        raise UsageError(f"{found.family.title} has no names in the layout {layout}: choose --layout {choices}")
    check_fit(found.checkpoint.state, build_empty(found.build), found.checkpoint.label)
    tensors = {
        name: tensor.detach().contiguous().clone()
        for name, tensor in from_official(found.checkpoint.state, chosen).items()
    }
    require_space(out, sum(tensor.nbytes for tensor in tensors.values()) + _BYTES_OF_HEADER)
    write_file(out, save(tensors, METADATA), overwrite=overwrite)
    return found
