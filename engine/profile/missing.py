"""What a profile asks for that this build lacks, in words. Knows no files."""

from __future__ import annotations

from engine.profile.built import BUILT, Built
from engine.profile.values import Profile, Rule


def missing_parts(profile: Profile, built: Built = BUILT) -> tuple[str, ...]:
    """`device cuda:0`, `precision int4`, ...: each once, in the order of the file; empty when the build can run it."""
    defaults = Rule("", profile.device, profile.precision, profile.group_size)
    found: dict[str, None] = {}
    gpus = {
        r.device for r in (defaults, *profile.rules) if r.device is not None and r.device.startswith("cuda")
    }
    many = f"devices {min(gpus)} and {len(gpus) - 1} more" if len(gpus) > 1 else ""
    for rule in (defaults, *profile.rules):
        if rule.device is not None and rule.device.partition(":")[0] not in built.device_kinds:
            found[many if many and rule.device in gpus else f"device {rule.device}"] = None
        if rule.precision is not None and rule.precision not in built.precisions:
            found[f"precision {rule.precision}"] = None
        for key in ("group_size", "gpu_resident"):
            if getattr(rule, key) is not None and key not in built.keys:
                found[key] = None
    if profile.kv_precision not in built.kv_precisions:
        found[f"kv_precision {profile.kv_precision}"] = None
    return tuple(found)
