"""The native module, or why it is not there. Knows no tensor: `dsv3chat doctor` asks without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

try:
    from engine import _native as _native
except ImportError as error:
    ABSENT = f"the native kernels are not built ({error}); install again with a C++20 compiler at hand"
else:
    ABSENT = ""


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
