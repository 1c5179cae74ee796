"""Which kernels serve the CPU of this process. Knows no model."""

from __future__ import annotations

import torch

from engine.errors import PlacementError
from engine.kernels.eager import EagerKernels
from engine.kernels.extension import NativeStatus, native_status
from engine.kernels.native import NativeKernels, NativePacker
from engine.kernels.protocol import Kernels
from engine.quant.packing import Packer


def cpu_kernels(compute: torch.dtype, num_threads: int) -> tuple[Kernels, Packer | None, str]:
    """(kernels, what packs weights for them, a sentence for the person when it is the slow way).

    The native kernels where they are built: float32 between packed weights; `compute` says whether int8 and int4 weights
    meet all of it or 16 bits of it. Else torch, with activations in `compute`. PlacementError when DSV3CHAT_ISA names an instruction set that cannot be run.
    """
    found = _native()
    if found.isa is None:
        return EagerKernels(compute), None, found.reason
    kernels = NativeKernels(num_threads, exact=compute is torch.float32)
    return kernels, kernels.packer, ""


def cpu_packer() -> Packer | None:
    """What packs weights for the kernels that `cpu_kernels` gives; None: they read rows."""
    return None if _native().isa is None else NativePacker()


def _native() -> NativeStatus:
    try:
        return native_status()
    except ValueError as error:
        raise PlacementError(f"{error}; unset the variable for the best one") from error
