"""Quantise a network layer by layer, on the activations of the quantised layers before (GPTQ; released run_gptq.py).

    embedding → states of all calibration rows
    layer:  norm → q, k, v → attention → o → norm → gate, up → product → down      each group of linears is quantised on
                                                                                   the outputs of the quantised ones
                                                                                   before it
    final norm and head are not changed

So every linear compensates the errors of those before it ("true sequential"), each activation is computed once, and
only one layer is in memory: its weights are read from one file and written to the next. A few rows also go through the
unquantised layers, and at the end both results are compared.

Not here: the solver (`gptq.py`), files (`gptq_folder.py`), the choice of texts (`cli/calibration_data.py`).
Shapes: T tokens of a row, H hidden_size, h query heads, d head_dim.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qianwen.model.attention import DocumentAttention
from qianwen.model.config import QwenConfig
from qianwen.model.linears.gptq_layout import Groups
from qianwen.model.rope import RotaryEmbedding, Rotation
from qianwen.model.transformer import Layer, run_layer
from qianwen.quantize.gptq import GptqConfig, Hessian, gptq, nearest

GROUPS = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",),
          ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))  # fmt: skip
LINEARS = tuple(name for group in GROUPS for name in group)
Step = Callable[[Tensor, "Row"], Tensor]


@dataclass
class Row:
    """A packed row of calibration tokens, with its states at the current layer."""

    states: Tensor  # [1, T, H]
    rotate: Rotation
    cache: DocumentAttention
    inner: Tensor = field(default_factory=lambda: torch.empty(0))  # inputs of the current group of linears


def packed_rows(texts: Sequence[Sequence[int]], seq_len: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pack texts, truncated to `seq_len`, into rows of `seq_len` tokens or fewer: ids and positions [1, T] of each."""
    ids: list[int] = []
    positions: list[int] = []
    for text in texts:
        text = list(text)[:seq_len]
        if ids and len(ids) + len(text) > seq_len:
            yield torch.tensor([ids]), torch.tensor([positions])
            ids, positions = [], []
        ids += text
        positions += range(len(text))
    if ids:
        yield torch.tensor([ids]), torch.tensor([positions])


def start(config: QwenConfig, embedding: Tensor, rows: Sequence[tuple[Tensor, Tensor]]) -> list[Row]:
    """The states of rows of (ids, positions) before the first layer, in the type of `embedding`."""
    rotary, states = RotaryEmbedding(config), []
    for ids, positions in rows:
        ids, positions = ids.to(embedding.device), positions.to(embedding.device)
        cache = DocumentAttention(config, ids.size(1), positions, stretch=True)
        states.append(Row(F.embedding(ids, embedding), rotary(positions, cache.rope), cache))
    return states


@torch.no_grad()
def advance(layer: nn.Module, rows: Sequence[Row]) -> None:
    """Compute a layer for all rows, without changing it."""
    for row in rows:
        row.states = run_layer(layer, row.states, row.rotate, row.cache)


@torch.no_grad()
def quantize_layer(layer: Layer, index: int, rows: Sequence[Row], config: GptqConfig) -> dict[str, Groups]:
    """Quantise the linears of a layer, and compute the quantised layer for all rows. Without rows, round to nearest.

    The layer is changed in place: its weights become the dequantised codes, in the type they had.
    """
    attention, mlp = layer.self_attn, layer.mlp

    def attend(x: Tensor, row: Row) -> Tensor:
        q, k, v = attention.project(x)
        q, k = row.rotate(attention.q_norm(q), attention.k_norm(k))
        return row.cache.attend(index, q, k, v).flatten(2)

    def between(x: Tensor, row: Row) -> Tensor:
        row.states = row.states + attention.o_proj(x)
        return layer.post_attention_layernorm(row.states)

    def gated(x: Tensor, row: Row) -> Tensor:
        gate, up = mlp.project(x)
        return F.silu(gate) * up

    def out(x: Tensor, row: Row) -> Tensor:
        row.states = row.states + mlp.down_proj(x)
        return torch.empty(0)

    for row in rows:
        row.inner = layer.input_layernorm(row.states)
    made: dict[str, Groups] = {}
    steps: tuple[Step, ...] = (attend, between, gated, out)
    for names, step in zip(GROUPS, steps, strict=True):
        made |= _quantize_group({name: layer.get_submodule(name) for name in names}, rows, config)
        for row in rows:
            row.inner = step(row.inner, row)
    return made


def restore_layer(layer: Layer, made: Mapping[str, Groups]) -> None:
    """Give a layer the weights of linears that an earlier process quantised."""
    for name, groups in made.items():
        _replace(layer.get_submodule(name), groups)


def _replace(linear: nn.Module, groups: Groups) -> None:
    assert isinstance(linear, nn.Linear)
    linear.weight.data = groups.dequantize().to(linear.weight)


def _quantize_group(linears: dict[str, nn.Module], rows: Sequence[Row], config: GptqConfig) -> dict[str, Groups]:
    """Quantise linears with the same inputs, the `inner` of every row."""
    made, hessian = {}, None
    for name, linear in linears.items():
        assert isinstance(linear, nn.Linear)
        if rows and hessian is None:
            hessian = Hessian(linear.in_features, linear.weight.device)
            for row in rows:
                hessian.add(row.inner)
        weight = linear.weight.detach()
        groups = nearest(weight, config) if hessian is None else gptq(weight, hessian.mean(), config)
        _replace(linear, groups)
        made[name] = groups
    return made
