"""The network of Qwen v1, Qwen1.5 / 2 / 2.5, Qwen3 (dense) and Llama (Qwen report, section 2.3).

    x = x + Attention(RMSNorm(x))
    x = x + MLP(RMSNorm(x))            times num_hidden_layers, then RMSNorm and the head

with rotary positions, a SwiGLU feed-forward, and biases on q, k, v or none (Qwen3, Llama; Qwen3 normalises q and k
instead). Differences between the families are decided when the modules are built. Differences between training,
generation and serving are in the cache. Module names are those of Hugging Face's Qwen2, so its weights load without
renaming.

The network can be changed from outside: each linear can be replaced (quantised, with an adapter; `replace_module`). How
layers run is an argument of each forward, `run_layer`, so it is not a state of the model that two callers could set
differently.

Shapes: B rows, T tokens, H hidden_size, h query heads, g key/value heads, d head_dim.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from qianwen.model.attention import DocumentAttention
from qianwen.model.caches.contiguous import KVCache
from qianwen.model.config import QwenConfig
from qianwen.model.rope import RotaryEmbedding, Rotation
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

Features = Sequence[tuple[int, int, Tensor]]  # (row, first token, hidden states [n, H])
RunLayer = Callable[[nn.Module, Tensor, Rotation, KVCache], Tensor]  # (layer, x [B, T, H], …) → [B, T, H]


class RMSNorm(nn.Module):
    """x / rms(x) · weight over the last dimension: normalised in fp32, cast back, then scaled, as in the reference."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.element_size() >= 4 else x.float()
        return F.rms_norm(wide, self.weight.shape, eps=self.eps).to(x.dtype) * self.weight


class Attention(nn.Module):
    """Grouped-query attention over the keys and values of the cache."""

    def __init__(self, config: QwenConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        q_size, kv_size = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, q_size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(q_size, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, H] → q [B, T, h, d], k and v [B, T, g, d]."""
        q, k, v = (linear(x).unflatten(-1, (-1, self.head_dim)) for linear in (self.q_proj, self.k_proj, self.v_proj))
        return q, k, v

    def forward(self, x: Tensor, rotate: Rotation, cache: KVCache) -> Tensor:
        q, k, v = self.project(x)
        q, k = rotate(self.q_norm(q), self.k_norm(k))
        return self.o_proj(cache.attend(self.layer, q, k, v).flatten(2))


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, config: QwenConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, T, H] → gate and up, each [B, T, intermediate_size]."""
        return self.gate_proj(x), self.up_proj(x)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.project(x)
        return self.down_proj(F.silu(gate) * up)


class Layer(nn.Module):
    """One block: attention, then the feed-forward, each with a norm before it and a residual connection around it.

    `dropout` zeroes random values of what attention and feed-forward add, in training only (`set_dropout`).
    """

    def __init__(self, config: QwenConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor, rotate: Rotation, cache: KVCache) -> Tensor:
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), rotate, cache))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


def run_layer(layer: nn.Module, x: Tensor, rotate: Rotation, cache: KVCache) -> Tensor:
    """The default of `run_layer`: call the module. The engine gives another function (`fused_layers.py`)."""
    return layer(x, rotate, cache)


class Decoder(nn.Module):
    """The network without the head: token ids → hidden states."""

    def __init__(self, config: QwenConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config)

    def forward(
        self, input_ids: Tensor, positions: Tensor, cache: KVCache, features: Features, run_layer: RunLayer
    ) -> Tensor:
        x = self.embed_tokens(input_ids)
        for row, start, states in features:
            x[row, start : start + len(states)] = states.to(x)
        rotate = self.rotary(positions, cache.rope)
        for layer in self.layers:
            x = run_layer(layer, x, rotate, cache)
        return self.norm(x)


class Qwen(nn.Module):
    """The language model: `hidden = model(ids)`, `logits = model.logits(hidden)`.

    >>> model = Qwen(PRESETS["tiny"]).init_weights(seed=0)
    >>> next_id = model.logits(model(ids)[:, -1]).argmax(-1)
    """

    document_attention = DocumentAttention  # used if there is no cache; compiled layers replace it

    def __init__(self, config: QwenConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie_weights()

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        features: Features = (),
        run_layer: RunLayer = run_layer,
    ) -> Tensor:
        """input_ids [B, T] → hidden [B, T, H].

        Without a cache, `positions` [B, T] that restart at 0 mark packed documents, which do not see each other. With a
        cache, the tokens come after those in the cache. `features` replace the embeddings of spans of tokens.
        `run_layer` is the function that runs a layer. As in the reference, NTK and LogN are off in training mode,
        unless there is a cache or the network is trained with LogN (`logn_in_training`).
        """
        if cache is None:
            cache = self.document_attention(self.config, input_ids.size(1), positions, stretch=not self.training)
        start = cache.length
        cache.reserve(input_ids.size(1))
        if positions is None:
            positions = torch.arange(start, start + input_ids.size(1), device=input_ids.device).unsqueeze(0)
        return self.model(input_ids, positions, cache, features or (), run_layer)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., H] → scores [..., vocab_size] of the next token."""
        return self.lm_head(hidden)

    def tie_weights(self) -> None:
        """Share the weight of embedding and head, if configured. Call it again after the weight was replaced."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @torch.no_grad()
    def init_weights(self, seed: int) -> "Qwen":
        """Initialise as in the reference: N(0, 0.02²), and 1/√(2L) of it for o_proj and down_proj. Returns the model.

        The numbers are drawn on the CPU, so they are the same on every device.
        """
        generator = torch.Generator().manual_seed(seed)
        std = self.config.initializer_range
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                ends_block = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = std / math.sqrt(2 * self.config.num_hidden_layers) if ends_block else std
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        return self


class _NoDraws(TorchFunctionMode):
    """Skips `init.normal_`. On the meta device it has no effect, but its first call imports torch's compiler (2 s)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return None if func is init.normal_ else func(*args, **kwargs or {})


def empty_network(config: QwenConfig) -> Qwen:
    """A network on the meta device, without memory. RuntimeError if a product of sizes overflows."""
    with torch.device("meta"), _NoDraws():
        return Qwen(config)


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace the submodule `name` by `module`."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def set_dropout(model: Qwen, probability: float) -> None:
    """Set the dropout of the residual branches, a setting of the training and not of the checkpoint.

    The v1.0 config of Qwen-7B-Chat has `resid_pdrop` 0.1, and 0 for attention weights and embeddings. So attention
    needs no dropout here, and its kernels do not change. Raises ConfigError for a value outside [0, 1).
    """
    if not 0 <= probability < 1:
        raise ConfigError(tr("dropout = {value} is not valid: use a number from 0 to below 1", value=probability))
    for layer in model.model.layers:
        layer.dropout.p = probability  # type: ignore[union-attr]


def key_biases(model: Qwen) -> list[Tensor | None]:
    """The bias of the key projection of each layer, also below adapters; None if a projection has no bias."""
    biases: list[Tensor | None] = []
    for layer in model.model.layers:
        attention = layer.self_attn
        assert isinstance(attention, Attention)
        linear: Any = attention.k_proj
        while hasattr(linear, "base"):
            linear = linear.base
        biases.append(linear.bias)
    return biases
