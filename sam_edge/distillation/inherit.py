"""Copy the teacher's prompt encoder and mask decoder to a student of the same architecture.

MobileSAM (https://arxiv.org/abs/2306.14289, section 3.2) keeps the teacher's decoder and trains the encoder alone. That
needs an embedding of the same meaning, channel by channel. For other pairs, stage `encoder` trains a projection, which
is discarded afterwards.
"""

from __future__ import annotations

from torch import nn

from sam_edge.model import Sam


def shares_decoder(student: Sam, teacher: Sam) -> bool:
    """Whether the student's prompt encoder and mask decoder have the teacher's classes, parameter names and shapes."""
    return all(
        type(mine) is type(theirs) and _shapes(mine) == _shapes(theirs)
        for mine, theirs in (
            (student.prompt_encoder, teacher.prompt_encoder),
            (student.mask_decoder, teacher.mask_decoder),
        )
    )


def copy_decoder(student: Sam, teacher: Sam) -> frozenset[str]:
    """Copy the teacher's prompt encoder and mask decoder; return the names of the parameters that were copied."""
    student.prompt_encoder.load_state_dict(teacher.prompt_encoder.state_dict())
    student.mask_decoder.load_state_dict(teacher.mask_decoder.state_dict())
    return frozenset(
        name for name, _ in student.named_parameters() if name.startswith(("prompt_encoder.", "mask_decoder."))
    )


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
