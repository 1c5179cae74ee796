"""The native module's interface (engine/native/module.cpp). Addresses are those of contiguous tensors that live on."""

_Matrix = tuple[int, int, int, int, int]  # address of the panels, rows, columns, format, columns of a group
_Source = tuple[
    int, int, int, int, int, int, int, int
]  # codes, scale, zero, rows, columns, format, group, rows of a block
_Rows = list[tuple[int, int, int, int]]  # first row, rows, start, address of the block ids (int64)

INTERFACE: int

def isa() -> str: ...
def isas() -> list[str]: ...
def packed_bytes(rows: int, cols: int, fmt: int, group: int, /) -> int: ...
def head_bytes(nope: int, v: int, rank: int, fmt: int, group: int, /) -> int: ...
def pack(rows: _Source, out: int, /) -> None: ...
def pack_heads(rows: _Source, heads: int, nope: int, v: int, out: int, /) -> None: ...

class Layer:
    hidden: int
    heads: int
    nope: int
    rope: int
    v: int
    rank: int
    eps: float
    softmax_scale: float
    num_experts: int
    top_k: int
    num_groups: int
    kept_groups: int
    normalise: bool
    routed_scale: float
    input_norm: int
    q_a_norm: int
    kv_a_norm: int
    post_attention_norm: int
    router: int
    correction_bias: int
    q: _Matrix
    q_a: _Matrix
    q_b: _Matrix
    kv_a: _Matrix
    o: _Matrix
    kv_b: tuple[int, int, int]  # address, format, group
    dense: tuple[_Matrix, _Matrix, _Matrix]
    gates: _Matrix
    ups: _Matrix
    downs: _Matrix

class Threads:
    def __init__(self, count: int, isa: str = "", exact: bool = False) -> None: ...
    @property
    def count(self) -> int: ...
    def embed(self, table: _Matrix, ids: int, count: int, out: int, /) -> None: ...
    def multiply(self, x: int, num_rows: int, weights: _Matrix, out: int, /) -> None: ...
    def rms_norm(self, x: int, num_rows: int, size: int, weight: int, eps: float, out: int, /) -> None: ...
    def attend(
        self,
        layer: Layer,
        num_rows: int,
        segments: _Rows,
        block_size: int,
        cache: int,
        pages: int,
        q: int,
        out: int,
        /,
    ) -> None: ...
    def feed_forward(self, layer: Layer, normed: int, num_rows: int, x: int, /) -> None: ...
    def routed_experts(
        self, layer: Layer, x: int, num_rows: int, ids: int, gates: int, out: int, /
    ) -> None: ...
    def run_layers(
        self,
        layers: list[Layer],
        num_rows: int,
        rotation: int,
        slots: int,
        segments: _Rows,
        block_size: int,
        cache: int,
        pages: list[int],
        x: int,
        /,
    ) -> None: ...
