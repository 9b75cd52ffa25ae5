"""What a student can take over from its teacher: prompt encoder and mask decoder, where they are of the same make.

MobileSAM (arXiv 2306.14289, section 3.2) keeps the teacher's decoder and learns the encoder alone. That needs an
embedding of the same meaning, channel for channel; between other pairs a learned projection stands in while the encoder
is taught, and is thrown away afterwards.
"""

from __future__ import annotations

from torch import nn

from sam_edge.model import Sam


def shares_decoder(student: Sam, teacher: Sam) -> bool:
    """Whether the student's prompt encoder and decoder have exactly the teacher's parameters by name and shape."""
    return all(
        type(mine) is type(theirs) and _shapes(mine) == _shapes(theirs)
        for mine, theirs in (
            (student.prompt_encoder, teacher.prompt_encoder),
            (student.mask_decoder, teacher.mask_decoder),
        )
    )


def take_decoder(student: Sam, teacher: Sam) -> frozenset[str]:
    """Copy prompt encoder and mask decoder; returns the names of the parameters that now are the teacher's."""
    student.prompt_encoder.load_state_dict(teacher.prompt_encoder.state_dict())
    student.mask_decoder.load_state_dict(teacher.mask_decoder.state_dict())
    return frozenset(
        name for name, _ in student.named_parameters() if name.startswith(("prompt_encoder.", "mask_decoder."))
    )


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
