"""Bytes per device and the tok/s range of (model, profile, machine), before anything is loaded. Knows no tensors."""

from engine.planner.fit import Plan, Remedies, make_plan, remedies
from engine.planner.machine import Figure, Machine, describe_machine
from engine.planner.need import KIND_ORDER, Need, RuleNeed, compute_need
from engine.planner.shape import ModelShape, read_shape
from engine.planner.speed import Speed

__all__ = [
    "KIND_ORDER",
    "Figure",
    "Machine",
    "ModelShape",
    "Need",
    "Plan",
    "Remedies",
    "RuleNeed",
    "Speed",
    "compute_need",
    "describe_machine",
    "make_plan",
    "read_shape",
    "remedies",
]
