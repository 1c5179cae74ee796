"""Names of models to folders, without the network."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from engine.errors import ModelNotFoundError
from engine.weights import locate
from engine.weights.locate import find_model, hub_cache_dir, list_models

V3 = {"architectures": ["DeepseekV3ForCausalLM"]}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders for built models, the Hugging Face cache and the work."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("DSV3CHAT_CACHE_DIR", str(tmp_path / "cache"))
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path


def checkpoint(folder: Path, config: object = V3) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"12345678")
    return folder


def cached(home: Path, hub_id: str, shards: int = 2, present: int = 2, config: object = V3) -> Path:
    """A repository as the Hugging Face cache lays it out: blobs, refs/main, a snapshot of links."""
    repository = home / "hf" / "hub" / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / "abc123"
    for folder in (snapshot, repository / "refs", repository / "blobs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    (snapshot / "config.json").write_text(json.dumps(config))
    names = [f"model-{i}.safetensors" for i in range(shards)]
    (snapshot / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {f"tensor{i}": name for i, name in enumerate(names)}})
    )
    for i, name in enumerate(names):
        (snapshot / name).symlink_to(Path("../../blobs") / f"blob{i}")
        if i < present:
            (repository / "blobs" / f"blob{i}").write_bytes(b"1234")
    return snapshot


def refusal(name: str) -> str:
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    return str(caught.value)


def test_a_folder_is_found_by_its_path(home: Path) -> None:
    folder = checkpoint(home / "work" / "sub" / "mine")
    assert find_model(str(folder)) == folder
    assert find_model("sub/mine") == Path("sub/mine")
    checkpoint(home / "work" / "bare")
    assert find_model("bare") == Path("bare")


def test_a_built_model_stands_above_a_folder_of_its_name(home: Path) -> None:
    built = checkpoint(home / "cache" / "models" / "nano")
    checkpoint(home / "work" / "nano")
    assert find_model("nano") == built
    assert find_model("./nano") == Path("nano")


def test_half_built_models_are_never_found(home: Path) -> None:
    for name in (".nano-1234", "nano.partial"):
        folder = checkpoint(home / "cache" / "models" / name)
        assert "half built" in refusal(str(folder))
        refusal(name)
    assert list_models() == []


def test_a_hub_id_is_found_in_the_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = cached(home, "some/Model-1.0")
    assert find_model("some/Model-1.0") == snapshot
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "elsewhere"))
    assert "neither a folder nor in the Hugging Face cache" in refusal("some/Model-1.0")


def test_without_refs_the_newest_snapshot_is_taken(home: Path) -> None:
    snapshot = cached(home, "some/model")
    (snapshot.parent.parent / "refs" / "main").unlink()
    assert find_model("some/model") == snapshot


def test_a_folder_without_config_does_not_hide_a_hub_id(home: Path) -> None:
    (home / "work" / "some" / "model").mkdir(parents=True)
    snapshot = cached(home, "some/model")
    assert find_model("some/model") == snapshot
    assert "config.json" in refusal("./some/model")


def test_an_incomplete_snapshot_is_noticed_and_says_how_to_go_on(home: Path) -> None:
    cached(home, "some/model", shards=3, present=1)
    message = refusal("some/model")
    assert "2 of 3 weight files are missing, first 'model-1.safetensors'" in message
    assert "download some/model`" in message


def test_a_revision_that_has_not_arrived_is_not_replaced_by_an_older_one(home: Path) -> None:
    snapshot = cached(home, "some/model")
    (snapshot.parent.parent / "refs" / "main").write_text("def456")
    assert "download some/model`" in refusal("some/model")


@pytest.mark.parametrize(
    ("hub_id", "size"),
    [
        ("deepseek-ai/DeepSeek-V3", "689 GB"),
        ("moonshotai/Moonlight-16B-A3B-Instruct", "32 GB"),
        ("moonshotai/Kimi-K2-Instruct", "1029 GB"),
        ("some/model", "size unknown"),
    ],
)
def test_an_absent_hub_id_gets_its_command_its_size_and_the_free_space(hub_id: str, size: str) -> None:
    pattern = rf"`\S*hf download {re.escape(hub_id)}` \({size}; free in {re.escape(str(hub_cache_dir()))}: [0-9.]+ GB\)"
    assert re.search(pattern, refusal(hub_id))


def test_a_typo_gets_the_nearest_name(home: Path) -> None:
    checkpoint(home / "cache" / "models" / "nano")
    assert "nearest known: nano;" in refusal("nanp")
    assert "nearest known: deepseek-ai/DeepSeek-V3.1;" in refusal("deepseek-v3.1")
    assert "did you mean deepseek-ai/DeepSeek-V3?" in refusal("deepseek-ai/DeepSeekV3")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "a/b/c", "a\0b", "x" * 5000, "~nobody", "../nano", "a/..", "é/b"]
)
def test_any_other_name_is_a_model_not_found(name: str) -> None:
    assert refusal(name)


def test_models_are_listed_with_size_and_problem(home: Path) -> None:
    checkpoint(home / "cache" / "models" / "nano")
    checkpoint(home / "cache" / "models" / "odd", config=[1])
    cached(home, "some/model", present=1)
    cached(home, "some/llama", config={"architectures": ["LlamaForCausalLM"]})
    cached(home, "some/broken", config="text")
    nano, odd, hub = list_models()
    assert (nano.name, nano.origin, nano.size_bytes, nano.problem) == ("nano", "built", 8, None)
    assert "names no architecture" in (odd.problem or "")
    assert (hub.name, hub.origin, hub.size_bytes) == ("some/model", "hub", 4)
    assert "1 of 2" in (hub.problem or "")


def test_the_cache_folder_follows_the_variables_of_the_hugging_face_tools(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_cache_dir() == home / "hf" / "hub"
    monkeypatch.delenv("HF_HOME")
    assert hub_cache_dir() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert hub_cache_dir() == home / "xdg" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "x"))
    assert hub_cache_dir() == home / "x"


def test_the_command_is_spelled_out_where_hf_is_not_on_the_path(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "hf").mkdir(exist_ok=True)
    (home / "bin").mkdir()
    (home / "bin" / "hf").touch()
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setattr(locate.sys, "executable", str(home / "bin" / "python"))
    assert f"`{home}/bin/hf download some/model`" in refusal("some/model")
