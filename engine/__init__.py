"""The engine's public names, resolved on first use so that `import engine` loads neither torch nor a tokenizer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.api import Engine as Engine
    from engine.api import Generation as Generation
    from engine.bandwidth import Rates as Rates
    from engine.bandwidth import read_rates as read_rates
    from engine.benchmark.kernels import benchmark_kernels as benchmark_kernels
    from engine.benchmark.model import benchmark_model as benchmark_model
    from engine.benchmark.values import BenchmarkProgress as BenchmarkProgress
    from engine.benchmark.values import BenchmarkTask as BenchmarkTask
    from engine.benchmark.values import ChunkSpeed as ChunkSpeed
    from engine.benchmark.values import KernelBenchmark as KernelBenchmark
    from engine.benchmark.values import KernelSpeed as KernelSpeed
    from engine.benchmark.values import ModelBenchmark as ModelBenchmark
    from engine.benchmark.values import ModelSpeed as ModelSpeed
    from engine.benchmark.values import NotMeasured as NotMeasured
    from engine.convert.conversion import Conversion as Conversion
    from engine.convert.conversion import ConvertedFormat as ConvertedFormat
    from engine.convert.conversion import FormatName as FormatName
    from engine.convert.conversion import convert_checkpoint as convert_checkpoint
    from engine.convert.verify import FormatError as FormatError
    from engine.convert.verify import TensorError as TensorError
    from engine.convert.verify import Verification as Verification
    from engine.convert.verify import verify_conversion as verify_conversion
    from engine.errors import CheckpointError as CheckpointError
    from engine.errors import ConversionError as ConversionError
    from engine.errors import EngineClosedError as EngineClosedError
    from engine.errors import EngineError as EngineError
    from engine.errors import GenerationError as GenerationError
    from engine.errors import GrammarError as GrammarError
    from engine.errors import LoadCancelledError as LoadCancelledError
    from engine.errors import ModelError as ModelError
    from engine.errors import ModelNotFoundError as ModelNotFoundError
    from engine.errors import PlacementError as PlacementError
    from engine.errors import ProfileError as ProfileError
    from engine.errors import PromptError as PromptError
    from engine.errors import RequestError as RequestError
    from engine.errors import RequestTooLargeError as RequestTooLargeError
    from engine.errors import UnsupportedModelError as UnsupportedModelError
    from engine.evaluation.evaluate import evaluate as evaluate
    from engine.evaluation.values import Estimate as Estimate
    from engine.evaluation.values import Evaluation as Evaluation
    from engine.evaluation.values import EvaluationProgress as EvaluationProgress
    from engine.evaluation.values import Quality as Quality
    from engine.events import Event as Event
    from engine.events import Failed as Failed
    from engine.events import Finished as Finished
    from engine.events import LoadProgress as LoadProgress
    from engine.events import Message as Message
    from engine.events import ModelInfo as ModelInfo
    from engine.events import PrefillProgress as PrefillProgress
    from engine.events import Queued as Queued
    from engine.events import Score as Score
    from engine.events import StepStats as StepStats
    from engine.events import SwitchPlan as SwitchPlan
    from engine.events import TextDelta as TextDelta
    from engine.events import TokenLogprob as TokenLogprob
    from engine.events import Usage as Usage
    from engine.hardware import Gpu as Gpu
    from engine.hardware import Hardware as Hardware
    from engine.hardware import MemoryInfo as MemoryInfo
    from engine.hardware import available_memory as available_memory
    from engine.hardware import probe as probe
    from engine.hardware import probe_gpus as probe_gpus
    from engine.kernels.extension import NativeStatus as NativeStatus
    from engine.kernels.extension import native_status as native_status
    from engine.planner import KIND_ORDER as KIND_ORDER
    from engine.planner import Figure as Figure
    from engine.planner import Machine as Machine
    from engine.planner import ModelShape as ModelShape
    from engine.planner import Need as Need
    from engine.planner import Plan as Plan
    from engine.planner import Remedies as Remedies
    from engine.planner import RuleNeed as RuleNeed
    from engine.planner import Speed as Speed
    from engine.planner import compute_need as compute_need
    from engine.planner import describe_machine as describe_machine
    from engine.planner import make_plan as make_plan
    from engine.planner import read_shape as read_shape
    from engine.planner import remedies as remedies
    from engine.profile import BUILT as BUILT
    from engine.profile import EVERYTHING as EVERYTHING
    from engine.profile import PROJECT_FILE as PROJECT_FILE
    from engine.profile import PROJECT_PROFILES as PROJECT_PROFILES
    from engine.profile import Built as Built
    from engine.profile import Profile as Profile
    from engine.profile import ProfileEntry as ProfileEntry
    from engine.profile import ProjectFile as ProjectFile
    from engine.profile import Rule as Rule
    from engine.profile import environment_overrides as environment_overrides
    from engine.profile import find_profile as find_profile
    from engine.profile import list_profiles as list_profiles
    from engine.profile import missing_parts as missing_parts
    from engine.profile import profile_lines as profile_lines
    from engine.profile import profile_values as profile_values
    from engine.profile import read_profile as read_profile
    from engine.profile import read_project_file as read_project_file
    from engine.profile import with_overrides as with_overrides
    from engine.sampling import JsonSchema as JsonSchema
    from engine.sampling import SamplingParams as SamplingParams
    from engine.text.grammar import read_schema as read_schema
    from engine.text.tokenizer import Tokenizer as Tokenizer
    from engine.weights.locate import KnownModel as KnownModel
    from engine.weights.locate import find_model as find_model
    from engine.weights.locate import list_models as list_models

_HOME = {
    "bandwidth": ("Rates", "read_rates"),
    "benchmark.kernels": ("benchmark_kernels",),
    "benchmark.model": ("benchmark_model",),
    "benchmark.values": (
        "BenchmarkProgress",
        "BenchmarkTask",
        "ChunkSpeed",
        "KernelBenchmark",
        "KernelSpeed",
        "ModelBenchmark",
        "ModelSpeed",
        "NotMeasured",
    ),
    "planner": (
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
    ),
    "api": ("Engine", "Generation"),
    "convert.conversion": ("Conversion", "ConvertedFormat", "FormatName", "convert_checkpoint"),
    "convert.verify": ("FormatError", "TensorError", "Verification", "verify_conversion"),
    "errors": (
        "CheckpointError",
        "ConversionError",
        "EngineClosedError",
        "EngineError",
        "GenerationError",
        "GrammarError",
        "LoadCancelledError",
        "ModelError",
        "ModelNotFoundError",
        "PlacementError",
        "ProfileError",
        "PromptError",
        "RequestError",
        "RequestTooLargeError",
        "UnsupportedModelError",
    ),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.values": ("Estimate", "Evaluation", "EvaluationProgress", "Quality"),
    "events": (
        "Event",
        "Failed",
        "Finished",
        "LoadProgress",
        "Message",
        "ModelInfo",
        "PrefillProgress",
        "Queued",
        "Score",
        "StepStats",
        "SwitchPlan",
        "TextDelta",
        "TokenLogprob",
        "Usage",
    ),
    "kernels.extension": ("NativeStatus", "native_status"),
    "hardware": ("Gpu", "Hardware", "MemoryInfo", "available_memory", "probe", "probe_gpus"),
    "profile": (
        "BUILT",
        "EVERYTHING",
        "PROJECT_FILE",
        "PROJECT_PROFILES",
        "Built",
        "ProjectFile",
        "Rule",
        "missing_parts",
        "profile_lines",
        "profile_values",
        "read_project_file",
        "Profile",
        "ProfileEntry",
        "environment_overrides",
        "find_profile",
        "list_profiles",
        "read_profile",
        "with_overrides",
    ),
    "sampling": ("JsonSchema", "SamplingParams"),
    "text.tokenizer": ("Tokenizer",),
    "text.grammar": ("read_schema",),
    "weights.locate": ("KnownModel", "find_model", "list_models"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(import_module(f"engine.{module}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULE_OF)
