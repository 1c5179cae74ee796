"""--set and the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ProfileError
from engine.profile import Profile, environment_overrides, parse_profile, with_overrides
from engine.profile.built import NOT_BUILT

BASE = parse_profile("sampling: {seed: 3}\ncache_lens: 4096", Path("p.yaml"))


def test_later_entries_win_and_the_rest_stays() -> None:
    profile = with_overrides(
        BASE, ["sampling.temperature=0.5", "defaults.precision=fp32", "sampling.temperature=0", "model=a=b"]
    )
    assert (profile.sampling.temperature, profile.sampling.seed) == (0.0, 3)
    assert (profile.precision, profile.model, profile.source) == ("fp32", "a=b", Path("p.yaml"))


def test_null_takes_a_value_back() -> None:
    assert with_overrides(BASE, ["sampling.seed=null"]).sampling.seed is None


def test_no_override_changes_nothing() -> None:
    assert with_overrides(BASE, []) == BASE


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("cache_lens", ["expected KEY=VALUE"]),
        ("cache_len=9", ["nearest known: cache_lens"]),
        ("temperature=1", ["nearest known: sampling.temperature"]),
        ("sampling=1", ["sampling.top_p"]),
        ("optimization_rules=[]", ["only a profile file"]),
        ("cache_lens=many", ["cache_lens: found 'many'", "whole number"]),
        ("sampling.top_p=2", ["top_p", "at most 1"]),
        ("defaults.precision=int3", [NOT_BUILT]),
        ("loop_guard=maybe", ["expected true or false"]),
        ("endpoint=x", [NOT_BUILT]),
        ("=", ["unknown key"]),
    ],
)
def test_a_wrong_entry_is_refused_with_its_text(entry: str, says: list[str]) -> None:
    with pytest.raises(ProfileError) as caught:
        with_overrides(BASE, [entry])
    assert str(caught.value).startswith(f"--set '{entry}': ")
    for part in says:
        assert part in str(caught.value)


def test_the_capacity_is_checked_on_the_result_and_not_on_the_way() -> None:
    with pytest.raises(
        ProfileError,
        match=r"^--set 'max_batch_size=8' \(or DSV3CHAT_MAX_BATCH_SIZE\): cache_lens: .*at least 8192",
    ):
        with_overrides(BASE, ["max_batch_size=8"])
    assert with_overrides(BASE, ["max_batch_size=8", "cache_lens=8192"]).max_batch_size == 8
    with pytest.raises(ProfileError, match="at least 4096"):
        with_overrides(Profile(cache_lens=2048), [])


def test_variables_become_entries() -> None:
    environ = {
        "DSV3CHAT_SAMPLING_TEMPERATURE": "0",
        "DSV3CHAT_CACHE_LENS": "9000",
        "DSV3CHAT_THREADS": "",
        "DSV3CHAT_MODEL": "x",
        "DSV3CHAT_PROFILE": "x",
        "DSV3CHAT_CACHE_DIR": "x",
        "DSV3CHAT_TEST_NANO": "x",
        "HOME": "x",
    }
    assert environment_overrides(environ) == ["cache_lens=9000", "sampling.temperature=0"]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("DSV3CHAT_CACHE_LEN", "9", "nearest known: DSV3CHAT_CACHE_LENS"),
        ("DSV3CHAT_CACH_DIR", "/x", "nearest known: DSV3CHAT_CACHE_DIR"),
        ("DSV3CHAT_CACHE_LENS", "many", "cache_lens: found 'many'"),
        ("DSV3CHAT_ENDPOINT", "x", NOT_BUILT),
    ],
)
def test_a_wrong_variable_is_refused_with_its_name(variable: str, value: str, says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        environment_overrides({variable: value})
    assert variable in str(caught.value)
    assert says in str(caught.value)


@given(
    st.text(max_size=30)
    | st.builds("{}={}".format, st.sampled_from(["cache_lens", "model"]), st.text(max_size=9))
)
def test_any_entry_is_applied_or_refused(entry: str) -> None:
    message = "--set applied"
    try:
        with_overrides(BASE, [entry])
    except ProfileError as error:
        message = str(error)
    assert message.startswith("--set ")
