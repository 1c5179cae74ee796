"""`dsv3chat review` over a scripted model: in a test's own process, or as a process `python review_driver.py SCRIPT FLAGS...`.

A script is {"answers": {PATH: [finding, ...] or raw text}, ...}; a file that it does not name is clean. Further keys are
`tokens_per_s`, `load_s`, `load_error` and `noise` (printed to descriptor 1 at load).
"""

import json
import os
import re
import sys

from dsv3chat import cli, cli_chat
from dsv3chat.fake_backend import FakeBackend, Reply
from engine import ModelNotFoundError

DEFECT = {
    "line": 1,
    "severity": "error",
    "rule": "mutable-default",
    "message": "The default list is shared.",
    "suggestion": "def f(a=None):",
}


class ReviewBackend(FakeBackend):
    """Answers a prompt by the file that it names; `num_loads` counts how often the model was wanted."""

    def __init__(self, answers=None, tokens_per_s=0.0, load_error=None, noise=False, **options):
        self.num_loads, self._noise = 0, noise
        self._answers, self._tokens_per_s = answers or {}, tokens_per_s
        error = ModelNotFoundError(load_error) if load_error else None
        super().__init__(self._reply, load_error=error, **options)

    def load(self, on_progress):
        self.num_loads += 1
        if self._noise:
            os.write(1, b"a library talks\n")
            print("and Python too")
        return super().load(on_progress)

    def _reply(self, messages):
        path = re.match(r"File: (.*)\n", messages[-1].content)[1]
        answer = self._answers.get(path, [])
        if not isinstance(answer, str):
            answer = json.dumps({"findings": answer}, separators=(",", ":"))
        return Reply(answer, tokens_per_s=self._tokens_per_s)


if __name__ == "__main__":
    script = json.loads(sys.argv[1])
    cli_chat.make_backend = lambda launch: ReviewBackend(**script)
    sys.exit(cli.run(["review", *sys.argv[2:]]))
