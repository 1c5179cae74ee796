"""Which kernels serve the CPU."""

from __future__ import annotations

import pytest
import torch

from engine.errors import PlacementError
from engine.kernels import cpu, extension
from engine.kernels.eager import EagerKernels
from engine.kernels.extension import NativeStatus
from engine.kernels.native import NativeKernels


def test_native_kernels_serve_where_they_are_built():
    kernels, packer, note = cpu.cpu_kernels(torch.bfloat16, 1)
    assert isinstance(kernels, NativeKernels)
    assert packer is kernels.packer
    assert note == ""


def test_torch_serves_without_them_and_says_so(monkeypatch):
    monkeypatch.setattr(cpu, "native_status", lambda: NativeStatus(None, "not built"))
    kernels, packer, note = cpu.cpu_kernels(torch.bfloat16, 1)
    assert type(kernels) is EagerKernels
    assert kernels.compute is torch.bfloat16
    assert packer is None
    assert note == "not built"


def test_an_instruction_set_that_cannot_be_run_is_refused_with_its_name(monkeypatch):
    def refuse() -> NativeStatus:
        raise ValueError("DSV3CHAT_ISA=avx9 is not known")

    monkeypatch.setattr(cpu, "native_status", refuse)
    with pytest.raises(PlacementError, match="DSV3CHAT_ISA=avx9 is not known"):
        cpu.cpu_kernels(torch.float32, 1)


def test_a_module_of_other_sources_does_not_serve_and_says_so():
    assert extension._staleness(extension.INTERFACE) == ""
    assert "install again" in extension._staleness(extension.INTERFACE - 1)
    assert "install again" in extension._staleness(0)
