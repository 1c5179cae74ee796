"""The in-process engine behind the protocol, against a stand-in for `engine.Engine`."""

import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest

from dsv3chat.engine_backend import EngineBackend
from engine import EngineClosedError, LoadCancelledError, Message, Profile, SamplingParams


class Engine:
    opened: ClassVar[list] = []

    def __init__(self, path, profile):
        self.path, self.profile = path, profile
        self.info = SimpleNamespace(name="tiny")
        self.closed = False
        self.opened.append(self)

    @classmethod
    def open(cls, path, profile, *, on_progress, cancelled, needs_text):
        assert needs_text  # a chat without a tokenizer is refused before its weights are read
        while cls.held is not None and not cls.held.wait(0.01):
            if cancelled():
                raise LoadCancelledError("stopped")
        on_progress("opened")
        return cls(path, profile)

    def submit(self, messages, params):
        return ("stream", messages, params)

    def count_tokens(self, messages):
        return 10 * len(messages)

    def count_text_tokens(self, text):
        return len(text)

    def plan_switch(self, profile):
        return ("plan", profile)

    def switch(self, profile, on_progress, cancelled):
        on_progress("switching")
        if cancelled():
            raise LoadCancelledError("stopped")
        self.info = SimpleNamespace(name=profile.name)
        return self.info

    def stats(self):
        return "stats"

    def close(self):
        self.closed = True


@pytest.fixture
def backend(monkeypatch):
    api = ModuleType("engine.api")
    api.Engine = Engine
    models = ModuleType("dsv3chat.models")
    models.resolve_model = lambda name, on_progress, cancelled: f"/models/{name}"
    monkeypatch.setitem(sys.modules, "engine.api", api)
    monkeypatch.setitem(sys.modules, "dsv3chat.models", models)
    Engine.opened, Engine.held = [], None
    return EngineBackend("tiny", Profile())


def test_the_engine_is_opened_on_the_resolved_folder_once(backend):
    seen = []
    assert backend.info is None
    assert backend.stats() is None
    info = backend.load(seen.append)
    assert backend.load(seen.append) is info is backend.info
    (engine,) = Engine.opened
    assert (engine.path, engine.profile) == ("/models/tiny", Profile())
    assert seen[-1] == "opened"


def test_calls_go_to_the_engine(backend):
    backend.load(lambda progress: None)
    messages = [Message("user", "hi")]
    assert backend.start(messages, SamplingParams(seed=1)) == ("stream", messages, SamplingParams(seed=1))
    assert backend.count_tokens(messages) == 10
    assert backend.count_text_tokens("abc") == 3
    assert backend.stats() == "stats"


def test_before_the_load_there_is_an_error_and_no_crash(backend):
    with pytest.raises(EngineClosedError, match="tiny is not loaded"):
        backend.start([], SamplingParams())
    backend.close()


@pytest.mark.parametrize("stop", ["cancel_load", "close"])
def test_a_running_load_can_be_stopped(backend, stop):
    Engine.held = threading.Event()
    errors = []

    def load():
        try:
            backend.load(lambda progress: None)
        except LoadCancelledError as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    getattr(backend, stop)()
    thread.join(60)
    assert len(errors) == 1
    assert backend.info is None


def test_a_stop_that_comes_as_the_engine_opens_closes_it_again(backend):
    backend.cancel_load()
    with pytest.raises(LoadCancelledError):
        backend.load(lambda progress: None)
    assert [engine.closed for engine in Engine.opened] == [True]


def test_after_a_stopped_load_the_model_can_be_loaded_until_it_is_closed(backend):
    backend.cancel_load()
    with pytest.raises(LoadCancelledError):
        backend.load(lambda progress: None)
    assert backend.load(lambda progress: None) is Engine.opened[-1].info
    other = EngineBackend("tiny", Profile())
    other.close()
    for _ in range(2):
        with pytest.raises(LoadCancelledError):
            other.load(lambda progress: None)


def test_closing_twice_closes_the_engine_and_ends_its_stats(backend):
    backend.load(lambda progress: None)
    backend.close()
    backend.close()
    assert Engine.opened[0].closed
    assert backend.stats() is None


def test_a_switch_goes_to_the_engine_and_its_profile_is_the_backends_from_then_on(backend):
    backend.load(lambda progress: None)
    other, seen = Profile(name="other"), []
    assert backend.plan_switch(other) == ("plan", other)
    assert backend.switch(other, seen.append, lambda: False).name == "other"
    assert (seen, backend.profile, backend.info.name) == (["switching"], other, "other")


def test_a_cancelled_switch_and_one_of_a_closed_backend_leave_the_profile(backend):
    backend.load(lambda progress: None)
    with pytest.raises(LoadCancelledError):
        backend.switch(Profile(name="other"), lambda progress: None, lambda: True)
    backend.close()
    with pytest.raises(LoadCancelledError):
        backend.switch(Profile(name="other"), lambda progress: None, lambda: False)
    assert backend.profile == Profile()
