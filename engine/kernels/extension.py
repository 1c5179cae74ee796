"""The native module, or why it is not there. Knows no tensor: `dsv3chat doctor` asks without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

INTERFACE = 5
"""What native/module.cpp calls itself; raised on both sides when what crosses between them changes."""


def _staleness(interface: int) -> str:
    """Why a module that says it is `interface` cannot serve this source tree; empty where it can."""
    if interface == INTERFACE:
        return ""
    return "the native kernels were built from other sources than these; install again (in a checkout: make install)"


try:
    from engine import _native as _native
except ImportError as error:
    ABSENT = f"the native kernels are not built ({error}); install again with a C++20 compiler at hand"
else:
    ABSENT = _staleness(getattr(_native, "INTERFACE", 0))


@dataclass(frozen=True, slots=True)
class NativeStatus:
    """`isa`: the instruction set in use ("avx2", ...); None: it does not serve, and `reason` says why."""

    isa: str | None
    reason: str = ""


def native_status() -> NativeStatus:
    """Whether the native kernels serve this process. ValueError when DSV3CHAT_ISA names what cannot be run."""
    return NativeStatus(None, ABSENT) if ABSENT else NativeStatus(_native.isa())


def instruction_sets() -> list[str]:
    """Those that this processor runs, best first; none without the module."""
    return [] if ABSENT else _native.isas()
