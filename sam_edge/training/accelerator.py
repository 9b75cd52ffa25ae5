"""The processes that train, and how this one's device computes: what of accelerate is set up before a run."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import parse_flag_from_env

from sam_edge_runtime.errors import UsageError


def make_accelerator(precision: str) -> Accelerator:
    """This process, its device and the others, as accelerate sees them.

    Args:
        precision: of a recipe.

    Raises:
        UsageError: this machine does not have the precision.
    """
    # As Accelerator itself will ask: the first to ask decides for the process.
    device = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device
    try:
        return Accelerator(
            mixed_precision=machine_precision(precision, device),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)],
        )
    except ValueError as error:
        raise UsageError(
            f"precision {precision!r} is not possible here ({error}): choose another, such as no"
        ) from error


def machine_precision(wanted: str, device: torch.device) -> str:
    """What `auto` means on this machine; every other precision means itself.

    bf16 without instructions for it is slower than fp32: ten times on a CPU with AVX2 alone.

    Args:
        wanted: precision of a recipe.
        device: where the training runs.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    read = getattr(torch.cpu, "get_capabilities", dict)  # torch 2.11 may not have it
    can: dict[str, object] = dict(read()) if device.type == "cpu" else {}
    return "bf16" if any(can.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "no"


def is_first_process() -> bool:
    """Whether this process prints; known before accelerate has started, since launchers number processes in `RANK`."""
    return os.environ.get("RANK", "0") == "0"
