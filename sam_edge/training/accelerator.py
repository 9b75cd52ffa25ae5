"""Set up accelerate: the processes of a run, this process's device and its precision."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import parse_flag_from_env

from sam_edge_runtime.errors import UsageError


def make_accelerator(precision: str) -> Accelerator:
    """An accelerator for this process.

    Args:
        precision: a recipe's `auto`, `no`, `bf16` or `fp16`.

    Raises:
        UsageError: this machine does not have the precision.
    """
    # The same arguments as Accelerator's own: the first PartialState determines the device of the process.
    device = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device
    try:
        return Accelerator(
            mixed_precision=machine_precision(precision, device),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)],
        )
    except ValueError as error:
        raise UsageError(
            f"precision {precision!r} is not possible on this machine ({error}): choose another, for example 'no'"
        ) from error


def machine_precision(wanted: str, device: torch.device) -> str:
    """The precision that a recipe's `auto` stands for on this machine; any other is returned as it is.

    `auto` is bf16 only where the hardware has instructions for it. Without them it is slower than fp32, ten times on a
    CPU with AVX2 alone.

    Args:
        wanted: a recipe's precision.
        device: the device that trains.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    read = getattr(torch.cpu, "get_capabilities", dict)  # torch 2.11 may not have it
    capabilities: dict[str, object] = dict(read()) if device.type == "cpu" else {}
    return "bf16" if any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "no"


def is_first_process() -> bool:
    """Whether this process prints. Launchers set `RANK`, so this is known before accelerate has started."""
    return os.environ.get("RANK", "0") == "0"
