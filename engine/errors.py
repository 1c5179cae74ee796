"""The errors of the engine, as one tree. Knows nothing of what raises them.

EngineError
├── ModelError                 the checkpoint cannot be used
│   ├── ModelNotFoundError     no such folder, built model or cached hub id
│   ├── CheckpointError        missing, extra, misshapen, truncated tensors or shards
│   └── UnsupportedModelError  another architecture, an option that is not built
├── ConversionError            a folder cannot be written: no room, something else there, already converted
├── ProfileError               a profile file is wrong: file, line, key, nearest known key
├── PlacementError             profile and machine do not fit together
├── RequestError               one request is refused or fails; the engine goes on
│   ├── RequestTooLargeError   can never fit: prompt, max tokens, capacity
│   ├── PromptError            the template or the tokenizer cannot take the messages
│   └── GrammarError           a schema that cannot be a grammar
├── GenerationError            a step failed for one request (logits that are not finite)
├── LoadCancelledError         the user stopped the loading
└── EngineClosedError          the engine is closed or broken

Every message says what was found, what was expected and what to do.
"""


class EngineError(Exception):
    """Root of the tree. `str(error)` is fit to be shown to a person as it is."""


class ModelError(EngineError):
    """The checkpoint cannot be used."""


class ModelNotFoundError(ModelError):
    """No such folder, built model or cached hub id."""


class CheckpointError(ModelError):
    """A checkpoint's files contradict its config or each other; names every tensor or shard concerned."""


class UnsupportedModelError(ModelError):
    """Another architecture, or an option of this one that is not built."""


class ConversionError(EngineError):
    """A converted folder cannot be written, or is not what it should be."""


class ProfileError(EngineError):
    """A profile is wrong. The message begins with `FILE:LINE: KEY`."""


class PlacementError(EngineError):
    """The profile asks for what this machine or this build does not have."""


class RequestError(EngineError):
    """One request is refused or fails; the engine and the other requests go on."""


class RequestTooLargeError(RequestError):
    """The request can never fit into the cache or the context."""


class PromptError(RequestError):
    """The template or the tokenizer cannot take these messages."""


class GrammarError(RequestError):
    """A schema that is none, or that uses what constrained decoding does not know."""


class GenerationError(EngineError):
    """A step failed for one request."""


class LoadCancelledError(EngineError):
    """The user stopped the loading."""


class EngineClosedError(EngineError):
    """The engine is closed, or broke and failed every request."""
