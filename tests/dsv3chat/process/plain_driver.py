"""The command line over a scripted backend, as its own process: `python plain_driver.py '{"text": ...}' FLAGS...`.

The first argument is the Reply as JSON; further keys are `noise` (printed to descriptor 1 at load), `load_error`,
`crash` (an exception at load), `load_s`, `context_tokens`.
"""

import json
import os
import sys
import warnings

from dsv3chat import cli, cli_chat
from dsv3chat.fake_backend import FakeBackend, Reply
from engine import ModelNotFoundError


class Backend(FakeBackend):
    def __init__(self, script):
        error = script.pop("load_error", None)
        self.noise, self.crash = script.pop("noise", False), script.pop("crash", False)
        options = {k: script.pop(k) for k in ("load_s", "context_tokens") if k in script}
        super().__init__(
            [Reply(**script)], load_error=ModelNotFoundError(error) if error else None, **options
        )

    def load(self, on_progress):
        if self.noise:
            os.write(1, b"a library talks\n")
            print("and Python too")
            warnings.warn("something is deprecated", stacklevel=1)
        if self.crash:
            raise ZeroDivisionError("broken\x1b[2J inside")
        return super().load(on_progress)

    def start(self, messages, params):
        print("PROMPT " + json.dumps([m.content for m in messages]), file=sys.stderr, flush=True)
        if params.grammar is not None:
            print("SCHEMA " + params.grammar.schema, file=sys.stderr, flush=True)
        stream = super().start(messages, params)
        cancel = stream.cancel

        def cancelled():
            print("CANCELLED", file=sys.stderr, flush=True)
            cancel()

        object.__setattr__(self, "_last", stream)
        return Cancelling(stream, cancelled)


class Cancelling:
    def __init__(self, stream, cancel):
        self.drain, self.wait, self.cancel = stream.drain, stream.wait, cancel


if __name__ == "__main__":
    script = json.loads(sys.argv[1])
    cli_chat.make_backend = lambda launch: Backend(script)
    sys.exit(cli.run(sys.argv[2:]))
