"""The shape of a network: one frozen dataclass for Qwen v1, Qwen1.5 / 2 / 2.5, Qwen3 (dense) and Llama.

Field names are those of Hugging Face, and every value is checked on construction, so a network can be built from any
`QwenConfig`. `PRESETS` has the published sizes. The keys of `config.json` are in `checkpoints/hf_config.py`.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr


@dataclass(frozen=True, kw_only=True)
class QwenConfig:
    """The defaults are those of Qwen v1. Fields marked "0:" are derived from other fields on construction."""

    vocab_size: int  # rows of the embedding, padding included
    hidden_size: int
    intermediate_size: int  # width of gate_proj and up_proj (v1 files hold twice this)
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int = 0  # 0: one per query head
    head_dim: int = 0  # 0: hidden_size / num_attention_heads
    max_position_embeddings: int = 8192  # tokens, the longest input that the model supports
    rope_theta: float = 10000.0  # base of the rotary frequencies
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02  # standard deviation of fresh weights
    tie_word_embeddings: bool = False
    qkv_bias: bool = True  # Qwen up to 2.5
    qk_norm: bool = False  # Qwen3: RMSNorm over head_dim on queries and keys
    train_len: int = 0  # tokens, the trained length, beyond which NTK and LogN act; 0: max_position_embeddings
    use_dynamic_ntk: bool = False
    use_logn_attn: bool = False
    rope_scaling: RopeState = RopeState()  # of the model's files
    scaling_from: int = 0  # tokens: shorter texts are rotated without rope_scaling; 0: the model was trained with it
    layer_windows: tuple[int, ...] = ()  # for each layer the tokens that a token sees, itself included; 0 or (): all

    def __post_init__(self) -> None:
        self._check_values()
        derived = {
            "num_key_value_heads": self.num_key_value_heads or self.num_attention_heads,
            "head_dim": self.head_dim or self.hidden_size // self.num_attention_heads,
            "train_len": self.train_len or self.max_position_embeddings,
            "layer_windows": tuple(self.layer_windows),
            "rope_scaling": RopeState(**scaling) if isinstance(scaling := self.rope_scaling, dict) else scaling,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        self._check_relations()

    def _check_values(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int:
                valid = type(value) is int and (value > 0 or value == field.default == 0)
            elif field.type is float:
                valid = type(value) in (int, float) and math.isfinite(value) and value > 0
            elif field.type is bool:
                valid = isinstance(value, bool)
            elif field.type is RopeState:
                valid = isinstance(value, (RopeState, dict))
            else:
                valid = isinstance(value, (tuple, list)) and all(type(w) is int and w >= 0 for w in value)
            if not valid:
                raise ConfigError(tr("{field} = {value} is not a valid value", field=field.name, value=repr(value)))

    def _check_relations(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                tr(
                    "num_attention_heads = {heads} must be a multiple of num_key_value_heads = {kv_heads}",
                    heads=self.num_attention_heads,
                    kv_heads=self.num_key_value_heads,
                )
            )
        if self.head_dim % 2 or not self.head_dim:
            message = "head_dim = {value} must be even: rotary positions rotate pairs of dimensions"
            raise ConfigError(tr(message, value=self.head_dim))
        scaling = self.rope_scaling
        # Hugging Face's dynamic scaling acts beyond the original length only, see `long_context.py`.
        is_always_dynamic = scaling.method == "dynamic_ntk" and not scaling.original_len == self.scaling_from > 0
        if is_always_dynamic or scaling.logn_len:
            raise ConfigError(tr("{field} = {value} is not a valid value", field="rope_scaling", value=scaling))
        if self.layer_windows and len(self.layer_windows) != self.num_hidden_layers:
            raise ConfigError(
                tr(
                    "layer_windows has {count} entries, but there are {layers} layers: give one for each layer",
                    count=len(self.layer_windows),
                    layers=self.num_hidden_layers,
                )
            )

    @property
    def architecture(self) -> str:
        """The Hugging Face model type that the weights are saved as: `qwen2`, `qwen3` or `llama`."""
        return "qwen3" if self.qk_norm else "qwen2" if self.qkv_bias else "llama"

    def window(self, layer: int) -> int:
        """Number of tokens that a token sees in `layer`, itself included; 0: all."""
        return self.layer_windows[layer] if self.layer_windows else 0

    @property
    def distinct_windows(self) -> tuple[int, ...]:
        """The different windows, in the order of their first layers."""
        return tuple(dict.fromkeys(map(self.window, range(self.num_hidden_layers))))


def _qwen_v1(layers: int, hidden: int, ffn: int, *, vocab_size: int = 151936, **fields: Any) -> QwenConfig:
    """All sizes have heads of 128 and one key/value head per query head (Qwen report, table 1; released configs)."""
    stretch: dict[str, Any] = {"use_dynamic_ntk": True, "use_logn_attn": True} | fields
    return QwenConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 128,
        **stretch,
    )


def _qwen25(layers: int, hidden: int, ffn: int, heads: int, kv_heads: int, **fields: Any) -> QwenConfig:
    shape: dict[str, Any] = {"vocab_size": 151936, "rope_theta": 1e6, "max_position_embeddings": 32768} | fields
    return QwenConfig(
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        **shape,
    )


def _small(layers: int, hidden: int, ffn: int, vocab_size: int, length: int) -> QwenConfig:
    """Our sizes for small machines: the block of Qwen v1, heads of 64, a small vocabulary, tied embeddings.

    For another vocabulary use `dataclasses.replace(PRESETS["tiny"], vocab_size=…)`.
    """
    return QwenConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        max_position_embeddings=length,
        tie_word_embeddings=True,
    )


PRESETS: dict[str, QwenConfig] = {
    "tiny": _small(4, 256, 704, vocab_size=4096, length=1024),
    "20m": _small(8, 384, 1024, vocab_size=16384, length=2048),
    "100m": _small(12, 768, 2048, vocab_size=16384, length=2048),
    "1.8b": _qwen_v1(24, 2048, 5504),
    "7b": _qwen_v1(32, 4096, 11008, train_len=8192, max_position_embeddings=32768),
    "14b": _qwen_v1(40, 5120, 13696, vocab_size=152064, train_len=2048),
    "72b": _qwen_v1(
        *(80, 8192, 24576),
        vocab_size=152064,
        rope_theta=1e6,
        max_position_embeddings=32768,
        use_dynamic_ntk=False,
        use_logn_attn=False,
    ),
    "qwen2.5-0.5b": _qwen25(24, 896, 4864, 14, 2, tie_word_embeddings=True),
    "qwen2.5-1.5b": _qwen25(28, 1536, 8960, 12, 2, tie_word_embeddings=True),
    "qwen2.5-3b": _qwen25(36, 2048, 11008, 16, 2, tie_word_embeddings=True),
    "qwen2.5-7b": _qwen25(28, 3584, 18944, 28, 4, vocab_size=152064),
}
