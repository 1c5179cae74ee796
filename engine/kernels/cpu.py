"""Which kernels serve the CPU of this process. Knows no model."""

from __future__ import annotations

import torch

from engine.kernels import native
from engine.kernels.eager import EagerKernels
from engine.kernels.protocol import Kernels
from engine.quant.packing import Packer


def cpu_kernels(compute: torch.dtype, num_threads: int) -> tuple[Kernels, Packer | None, str]:
    """(kernels, what packs weights for them, a sentence for the person when it is the slow way).

    The native kernels where they are built: float32 between packed bf16 weights, whatever `compute` says. Else torch, with
    activations in `compute`. ValueError when DSV3CHAT_ISA names an instruction set that cannot be run.
    """
    found = native.status()
    if found.isa is None:
        return EagerKernels(compute), None, found.reason
    kernels = native.NativeKernels(num_threads)
    return kernels, kernels.packer, ""
