"""The GPUs that torch can use: why one is not there, and what is free on it. Knows no profile and no weights.

Nothing here touches the driver before a device is named. Asking what is free makes CUDA's context in this process, some
hundred megabytes of VRAM that stay: only a profile that wants the device asks.
"""

from __future__ import annotations

import torch

from engine.hardware import probe_gpus


def memory_of(device: str) -> torch.device:
    """What torch calls a device of a profile."""
    return torch.device(device)


def why_missing(device: str) -> str:
    """Why `cuda:N` cannot be used; empty where it can."""
    found, reason = probe_gpus()
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        there = f"{found[0].name} is there, but " if found else f"{reason}, and " if reason else ""
        return f"{there}this torch ({torch.__version__}) is a build without CUDA"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        return (
            reason
            or "the driver shows a GPU, but torch cannot use it: is the driver older than torch's CUDA?"
        )
    if int(device.partition(":")[2]) < count:
        return ""
    return f"torch sees {count} GPU{'s' if count > 1 else ''}, counted from cuda:0"


def free_bytes(device: str) -> int:
    """What this process can still take: what the driver has free, and what torch holds for it unused."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def give_back() -> None:
    """What torch holds unused goes back to the driver."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
