"""Fused layers give the results of the modules, for every family of Qwen."""

import weakref

import numpy as np
import pytest
import torch
from torch import Tensor

from qianwen.kernels.cpu import operators
from qianwen.kernels.cpu.build import family
from qianwen.kernels.cpu.row_limits import ONE_WAY, WAYS, Limits
from qianwen.model.caches.paged import PagedCache
from qianwen.model.config import QwenConfig
from qianwen.model.fused_layers import FusedLayers, fused_layers
from qianwen.model.linears.packed import PackedLinear, make_invariant, pack_model
from qianwen.model.long_context import rope_state
from qianwen.model.transformer import Qwen, RunLayer, replace_module, run_layer

pytestmark = pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 48,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
KINDS = {
    "plain": {},
    "windows": {"layer_windows": (5, 33, 0)},
    "NTK and LogN": {"train_len": 16, "use_dynamic_ntk": True, "use_logn_attn": True},
    "Qwen3": {"qk_norm": True, "qkv_bias": False, "head_dim": 20},
    "joined": {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32, "num_key_value_heads": 2},
}


def build(kind: str, bits: int) -> Qwen:
    return pack_model(Qwen(QwenConfig(**(SHAPE | KINDS[kind]))).init_weights(1), bits, head_bits=bits)


def run(
    model: Qwen,
    texts: list[list[int]],
    steps: list[list[int]],
    dtype: torch.dtype = torch.float32,
    run_layer: RunLayer = run_layer,
) -> list[Tensor]:
    """Hidden states of each text; `steps[i]` says how many of its tokens each step brings."""
    cache = PagedCache(model.config, 40, 16, dtype=dtype, kernel=operators.paged_attention)
    tables = np.split(np.arange(40), len(texts))
    done, outputs = [0] * len(texts), [[] for _ in texts]
    for counts in zip(*steps, strict=True):
        active = [row for row, count in enumerate(counts) if count]
        chunks = [texts[row][done[row] : done[row] + counts[row]] for row in active]
        for row in active:
            done[row] += counts[row]
        contexts, sizes = (np.array(x) for x in ([done[row] for row in active], [len(chunk) for chunk in chunks]))
        blocks = [[tables[row].tolist() for row in active]] * cache.num_kinds
        positions = cache.begin(blocks, contexts, sizes, [rope_state(model.config, 1)] * len(active))
        with torch.inference_mode():
            ids, where = torch.tensor([sum(chunks, [])]), torch.from_numpy(positions)[None]
            hidden = model(ids, where, cache, run_layer=run_layer)[0]
        for row, part in zip(active, hidden.split(sizes.tolist()), strict=True):
            outputs[row].append(part)
    return [torch.cat(parts) for parts in outputs]


def texts(count: int) -> list[list[int]]:
    return torch.randint(0, 64, (count, 40)).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_layers_equal_the_modules(kind: str, dtype: torch.dtype) -> None:
    model, some = make_invariant(build(kind, 16)), texts(2)
    steps = [[30, 1, 1, 8], [20, 19, 1, 0]]
    expected = run(model, some, steps, dtype)
    fused = fused_layers(model, is_invariant=True)
    for got, want in zip(run(model, some, steps, dtype, fused), expected, strict=True):
        # Rounding to bf16 in the cache may fall either way where fp32 differs in its last bit.
        tolerance = 1e-4 if dtype == torch.float32 else 0.03
        assert (got - want).norm() <= tolerance * want.norm()


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("limits", WAYS)
def test_fused_layers_work_with_all_algorithms(bits: int, limits: Limits) -> None:
    """The last algorithm never writes the activations inside the feed-forward as floats."""
    model, some = build("joined", bits), texts(2)
    for module in model.modules():
        if isinstance(module, PackedLinear):
            module.limits = limits
    steps = [[30, 1, 1, 8], [20, 19, 1, 0]]
    expected = run(model, some, steps)
    for got, want in zip(run(model, some, steps, run_layer=FusedLayers(model)), expected, strict=True):
        # Rounding rows to bytes or bfloat16 falls either way where fp32 differs in its last bit.
        assert (got - want).norm() <= 0.06 * want.norm()


@pytest.mark.parametrize("coded", [("gate_proj", "up_proj"), ("gate_proj", "up_proj", "down_proj")])
@pytest.mark.parametrize("limits", WAYS)
def test_tokens_with_an_outlier_keep_their_small_values(coded: tuple[str, ...], limits: Limits) -> None:
    """Token 0 has an outlier: as first token of a text at the start, inside a block of rows, and in the next block."""
    model = build("joined", 16)
    model.model.layers = model.model.layers[:1]
    model.model.embed_tokens.weight.data[0, 3] = 100.0
    model.model.layers[0].post_attention_layernorm.weight.data[3] = 5.0
    for name, linear in list(model.named_modules()):
        if name.endswith(coded):
            replace_module(model, name, PackedLinear.from_float(linear.dequantize(), format="int8"))
    text = torch.randint(1, 64, (600,))
    text[[0, 5, 590]] = 0
    for module in model.modules():
        if isinstance(module, PackedLinear):
            module.limits = limits
    errors = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "available", lambda: False)
        expected = run(model, [text.tolist()], [[600]])[0][text == 0]
    for splits in (False, True):
        for linear in (model.model.layers[0].mlp.gate_proj, model.model.layers[0].mlp.up_proj):
            linear.splits_outliers = splits
        got = run(model, [text.tolist()], [[600]], run_layer=FusedLayers(model))[0][text == 0]
        errors.append((got - expected).norm(dim=1) / expected.norm(dim=1))
    assert (errors[1] < 0.65 * errors[0]).all()


def test_an_unpacked_layer_between_packed_ones() -> None:
    model, some = make_invariant(build("plain", 16)), texts(2)
    model.model.layers[1] = Qwen(model.config).init_weights(1).model.layers[1].requires_grad_(False)
    steps = [[30, 1, 1, 8], [20, 19, 1, 0]]
    expected = run(model, some, steps)
    fused = fused_layers(model, is_invariant=True)
    for got, want in zip(run(model, some, steps, run_layer=fused), expected, strict=True):
        assert (got - want).norm() <= 1e-4 * want.norm()


def test_other_caches_use_the_ordinary_layers() -> None:
    model, ids = build("plain", 16), torch.tensor(texts(1))
    expected = model(ids)
    assert torch.equal(model(ids, run_layer=fused_layers(model)), expected)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_bits_do_not_depend_on_batch_or_chunks(bits: int) -> None:
    """R24 for whole networks: alone or together, at once or in pieces."""
    model, some = build("joined", bits), texts(4)
    fused = fused_layers(model, is_invariant=True)
    together = run(model, some, [[40], [40], [40], [40]], run_layer=fused)
    for row, text in enumerate(some):
        assert torch.equal(run(model, [text], [[7, 1, 31, 1]], run_layer=fused)[0], together[row])


def test_linears_with_the_same_format_share_memory() -> None:
    model = build("joined", 4)
    FusedLayers(model)
    attention = model.model.layers[0].self_attn
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    assert all(isinstance(part, PackedLinear) for part in parts)
    ends = [part.packed.data_ptr() + part.packed_bytes for part in parts]
    assert [part.packed.data_ptr() for part in parts[1:]] == ends[:-1]
    where = parts[0].packed.data_ptr()
    FusedLayers(model)
    assert parts[0].packed.data_ptr() == where, "memory that is shared already is not copied again"


def test_fused_layers_are_built_once_and_freed_with_the_decoder() -> None:
    model = build("joined", 8)
    fast = fused_layers(model)
    assert fused_layers(model) is fast
    invariant = fused_layers(model, is_invariant=True)
    assert invariant is not fast and fused_layers(model, is_invariant=True) is invariant
    assert model.lm_head.limits == ONE_WAY
    assert fused_layers(model) is not invariant and model.lm_head.limits is None
    weight = weakref.ref(model.model.layers[0].mlp.down_proj.packed)
    del fast, invariant
    model.model = Qwen(model.config).model
    assert weight() is None
