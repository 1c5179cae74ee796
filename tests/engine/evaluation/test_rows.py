"""The file of the reference's logits: exact, without a name, and refused where there is no room."""

import os
import shutil
from types import SimpleNamespace

import pytest
import torch

from engine import EngineError
from engine.evaluation.rows import RowFile


def test_rows_come_back_bit_by_bit_and_nothing_stays(tmp_path):
    rows = torch.randn(9, 33)
    with RowFile(tmp_path, 9, 33) as file:
        file.write(4, rows[4:])
        file.write(0, rows[:4])
        assert torch.equal(file.read(0, 9), rows)
        assert torch.equal(file.read(3, 2), rows[3:5])
        assert os.listdir(tmp_path) == []  # a process that is killed leaves nothing either
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_refused_beforehand_with_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    with pytest.raises(EngineError, match=r"0\.20 GB .* 0\.00 GB are free; take fewer tokens"):
        RowFile(tmp_path, 1000, 49152)
