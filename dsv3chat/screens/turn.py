"""One running answer: what its events have brought so far. Knows no widget and no store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from dsv3chat.backend import Stream
from dsv3chat.conversation import ChatMessage, Status
from dsv3chat.widgets.message import grouped
from engine import Event, Failed, Finished, PrefillProgress, Queued, TextDelta

Phase: TypeAlias = Literal["preparing", "queued", "prefill", "generating", "ended"]
_RATE_WINDOW_S = 5.0
_STATUS: dict[str, Status] = {"length": "length", "cancelled": "stopped", "looping": "looping"}


@dataclass(slots=True)
class Turn:
    """Takes the events of a stream; `message` is the answer as it stands, whole after every `absorb`."""

    message: ChatMessage
    stream: Stream | None = None
    phase: Phase = "preparing"
    num_tokens: int = 0
    stopping: bool = False
    _queued: int = 0
    _prefill: PrefillProgress | None = None
    _times: deque[tuple[float, int]] = field(default_factory=deque)

    def stop(self) -> None:
        """Stop at the next token; before the stream is there, as soon as it would begin."""
        self.stopping = True
        if self.stream is not None:
            self.stream.cancel()

    def absorb(self, events: Iterable[Event]) -> str:
        """Take events; returns the new text of the answer."""
        answer: list[str] = []
        thinking: list[str] = []
        num_thinking = 0
        for event in events:
            match event:
                case Queued(position):
                    self.phase, self._queued = "queued", position
                case PrefillProgress():
                    self.phase, self._prefill = "prefill", event
                case TextDelta(text, num_tokens, at, kind):
                    self.phase = "generating"
                    self.num_tokens += num_tokens
                    self._times.append((at, num_tokens))
                    if kind == "thinking":
                        thinking.append(text)
                        num_thinking += num_tokens
                    else:
                        answer.append(text)
                case Finished(reason, usage):
                    self.end(_STATUS.get(reason, "complete"))
                    self.message = replace(self.message, usage=usage)
                case Failed(message, _, usage):
                    self.end("failed", message)
                    self.message = replace(self.message, usage=usage)
        new = "".join(answer)
        if answer or thinking:
            self.message = replace(
                self.message,
                text=self.message.text + new,
                thinking=self.message.thinking + "".join(thinking),
                thinking_tokens=self.message.thinking_tokens + num_thinking,
            )
        return new

    def end(self, status: Status, note: str = "") -> None:
        """The answer is over; its text stays."""
        self.phase = "ended"
        self.message = replace(self.message, status=status, note=note)

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second over the last seconds; None below two tokens."""
        now = time.monotonic()
        while len(self._times) > 2 and now - self._times[0][0] > _RATE_WINDOW_S:
            self._times.popleft()
        if len(self._times) < 2:
            return None
        seconds = self._times[-1][0] - self._times[0][0]
        num_tokens = sum(count for _, count in self._times) - self._times[0][1]
        return num_tokens / seconds if seconds > 0 else None

    @property
    def status(self) -> str:
        """What is going on, in words."""
        if self.stopping and self.phase != "ended":
            return "◌ stopping"
        match self.phase:
            case "preparing":
                return "◌ preparing"
            case "queued":
                return f"◌ waiting, {self._queued} before it"
            case "prefill":
                progress = self._prefill
                if progress is None:
                    return "◐ reading the prompt"
                reused = f" ({grouped(progress.cached)} reused)" if progress.cached else ""
                return (
                    f"◐ reading the prompt {grouped(progress.done)} of {grouped(progress.total)} tok{reused}"
                )
            case "generating":
                rate = self.tokens_per_s
                speed = f" · {rate:.1f} tok/s" if rate is not None else ""
                return f"● generating {grouped(self.num_tokens)} tok{speed}"
            case "ended":
                return "○ ready"
