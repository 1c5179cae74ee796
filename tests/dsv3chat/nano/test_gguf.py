"""The GGUF reader on small files written here, byte by byte as the format is described."""

import struct

import numpy as np
import pytest

from dsv3chat.nano.gguf import GgufFile
from engine import CheckpointError


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(tensors, metadata=b"", num_metadata=0, alignment=32, magic=b"GGUF", version=3):
    """tensors: name -> (type, shape slowest first, data)."""
    infos, data = b"", b""
    for name, (kind, shape, raw) in tensors.items():
        data += bytes(-len(data) % alignment)
        dims = struct.pack(f"<{len(shape)}Q", *shape[::-1])
        infos += string(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", kind, len(data))
        data += raw
    head = magic + struct.pack("<IQQ", version, len(tensors), num_metadata) + metadata + infos
    return head + bytes(-len(head) % alignment) + data


def q4_1_block(generator):
    d, m = generator.normal(size=2).astype(np.float16)
    quants = generator.integers(0, 256, 16, dtype=np.uint8)
    values = [np.float32(d) * np.float32(q & 15) + np.float32(m) for q in quants]
    values += [np.float32(d) * np.float32(q >> 4) + np.float32(m) for q in quants]
    return struct.pack("<ee", d, m) + quants.tobytes(), values


def q8_0_block(generator):
    d = generator.normal(size=1).astype(np.float16)[0]
    quants = generator.integers(-128, 128, 32).astype(np.int8)
    return struct.pack("<e", d) + quants.tobytes(), [np.float32(d) * np.float32(q) for q in quants]


@pytest.mark.parametrize(("kind", "block"), [(3, q4_1_block), (8, q8_0_block)])
def test_quantized_blocks_widen_to_scale_times_code_plus_minimum(tmp_path, kind, block):
    generator = np.random.default_rng(5)
    blocks = [block(generator) for _ in range(6)]
    path = tmp_path / "base.gguf"
    path.write_bytes(
        gguf({"other": (0, (3,), b"123456789012"), "w": (kind, (3, 64), b"".join(b for b, _ in blocks))})
    )
    found = GgufFile(path).tensor("w")
    assert found.dtype == np.float32
    assert found.tolist() == np.array([v for _, v in blocks], np.float32).reshape(3, 64).tolist()


def test_metadata_of_every_kind_is_stepped_over_and_alignment_obeyed(tmp_path):
    metadata = string("a.string") + struct.pack("<I", 8) + string("héllo")
    metadata += string("numbers") + struct.pack("<IIQ", 9, 5, 3) + struct.pack("<3i", 1, 2, 3)
    metadata += string("strings") + struct.pack("<IIQ", 9, 8, 2) + string("x") + string("yy")
    metadata += string("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 8, 1) + string("z")
    metadata += string("general.alignment") + struct.pack("<II", 4, 64)
    metadata += string("flag") + struct.pack("<I?", 7, True)
    values = np.arange(6, dtype=np.float32)
    path = tmp_path / "base.gguf"
    path.write_bytes(
        gguf({"a": (0, (1,), b"1234"), "w": (0, (2, 3), values.tobytes())}, metadata, 6, alignment=64)
    )
    file = GgufFile(path)
    assert file.names() == ["a", "w"]
    assert file.tensor("w").tolist() == values.reshape(2, 3).tolist()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"not a model at all",
        gguf({}, magic=b"GGML"),
        gguf({}, version=9),
        gguf({"w": (0, (4,), bytes(16))})[:40],
        gguf({}, string("k") + struct.pack("<IQ", 8, 1 << 62), 1),
    ],
    ids=["empty", "magic alone", "text", "other magic", "other version", "cut directory", "endless string"],
)
def test_what_is_no_whole_gguf_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "base.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"base\.gguf"):
        GgufFile(path)


def test_absent_cut_and_unknown_tensors_are_refused_by_name(tmp_path):
    path = tmp_path / "base.gguf"
    path.write_bytes(gguf({"w": (0, (4,), bytes(16)), "odd": (2, (32,), bytes(18))})[:-40])
    file = GgufFile(path)
    with pytest.raises(CheckpointError, match="no tensor 'v'"):
        file.tensor("v")
    with pytest.raises(CheckpointError, match="odd has GGUF type 2"):
        file.tensor("odd")
    with pytest.raises(CheckpointError, match="ends before the data of w"):
        file.tensor("w")
