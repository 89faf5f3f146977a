"""`config.json` of the four supported model types: Hugging Face keys ↔ the fields of `QwenConfig`.

    qwen    Qwen v1, both generations of keys (n_embd in August 2023, hidden_size in later files);
            intermediate_size is twice the width, because it counts gate and up together
    qwen2   Qwen1.5, 2, 2.5: biases on q, k, v; optional sliding window
    qwen3   no biases; RMSNorm on queries and keys
    llama   neither

A field with a value that the network does not support (an unknown activation, other biases) is an error that names the
field, because such weights would run but give wrong text. Runtime options (cache, dtype) are ignored. Fields that no
Hugging Face class has (NTK, LogN, windows and training length in a `qwen2` file) are written under our names; other
readers skip them. The scaling of rotary positions is in `hf_rope.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from qianwen.checkpoints.hf_rope import rope_fields, rope_theta_fields, rope_to_hf
from qianwen.model.config import QwenConfig
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

ARCHITECTURES = {
    "qwen": "QWenLMHeadModel",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
}

# Keys of the first Qwen-7B release (2023-08-03) → their names in later files.
_V1_LEGACY = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "ffn_hidden_size": "intermediate_size",
    "padded_vocab_size": "vocab_size",
}

_V1_FIELDS = {
    "kv_channels": "head_dim",
    "rotary_emb_base": "rope_theta",
    "layer_norm_epsilon": "rms_norm_eps",
    "seq_length": "train_len",
    "use_dynamic_ntk": "use_dynamic_ntk",
    "use_logn_attn": "use_logn_attn",
}

_SHARED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_OPTIONAL = ("max_position_embeddings", "initializer_range", "tie_word_embeddings")
_LATER = ("num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta")
_OURS = ("train_len", "use_dynamic_ntk", "use_logn_attn", "layer_windows", "scaling_from")

# Supported values of optional fields.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "activation": ("swiglu",),
    "pos_emb": ("rotary",),
    "rotary_pct": (1.0,),
    "partial_rotary_factor": (1.0,),
    "no_bias": (True,),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "scale_attn_weights": (True,),
    "apply_residual_connection_post_layernorm": (False,),
    "visual": (None,),
    "audio": (None,),
}


def config_from_hf(hf: Mapping[str, Any]) -> QwenConfig:
    """The `QwenConfig` for the contents of a `config.json`.

    Raises ConfigError for the first field that the network does not support.
    """
    model_type = _model_type(hf)
    rope = rope_fields(hf, model_type)
    hf = {**hf, **rope_theta_fields(hf)}
    for field, supported in _SUPPORTED.items():
        if field in hf and hf[field] not in supported:
            raise _refusal(field, hf[field], supported)
    return QwenConfig(**(_read_v1(hf) if model_type == "qwen" else _read_later(hf, model_type)) | rope)


def config_to_hf(config: QwenConfig, model_type: str = "") -> dict[str, Any]:
    """The contents of a `config.json` of `model_type`: `qwen` (v1), `qwen2`, `qwen3` or `llama`; empty: as the config.

    The caller adds token ids and dtype. Raises ConfigError if this model type cannot express the config.
    """
    fields, model_type = asdict(config), model_type or config.architecture
    if model_type not in ARCHITECTURES:
        raise _refusal("model_type", model_type, ARCHITECTURES)
    hf = _write_v1(fields) if model_type == "qwen" else _write_later(fields, model_type)
    rope = rope_to_hf(config)
    if rope and model_type == "qwen":
        message = "the layout of Qwen v1 has no rope scaling, so it cannot hold this model's {method}; choose another"
        raise ConfigError(tr(message, method=config.rope_scaling.method))
    return {"architectures": [ARCHITECTURES[model_type]], "model_type": model_type, **hf, **rope}


def _model_type(hf: Mapping[str, Any]) -> str:
    classes = hf.get("architectures")
    by_class = {name: model_type for model_type, name in ARCHITECTURES.items()}
    named = hf.get("model_type") or (by_class.get(str(classes[0])) if isinstance(classes, list) and classes else None)
    if not isinstance(named, str) or named not in ARCHITECTURES:
        raise _refusal("model_type", named or classes, ARCHITECTURES)
    return named


def _read_v1(hf: Mapping[str, Any]) -> dict[str, Any]:
    hf = dict(hf) | {later: hf[legacy] for legacy, later in _V1_LEGACY.items() if legacy in hf}
    read = _counts(hf) | _pick(hf, _OPTIONAL) | {ours: hf[key] for key, ours in _V1_FIELDS.items() if key in hf}
    return read | {"intermediate_size": read["intermediate_size"] // 2}


def _read_later(hf: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    read = _counts(hf) | _pick(hf, (*_OPTIONAL, *_LATER, *_OURS))
    read |= {"qkv_bias": model_type == "qwen2", "qk_norm": model_type == "qwen3"}
    if model_type == "qwen3":
        read.setdefault("head_dim", 128)
    if hf.get("use_sliding_window") and hf.get("sliding_window"):
        read["layer_windows"] = [hf["sliding_window"] if slides else 0 for slides in _sliding_layers(hf)]
    return read


def _write_v1(fields: Mapping[str, Any]) -> dict[str, Any]:
    needs = {
        "num_key_value_heads": fields["num_attention_heads"],
        "head_dim": fields["hidden_size"] // fields["num_attention_heads"],
        "qkv_bias": True,
        "qk_norm": False,
        "tie_word_embeddings": False,
        "layer_windows": (),
    }
    for field, needed in needs.items():
        if fields[field] != needed:
            raise _refusal(field, fields[field], [needed])
    return {
        **_pick(fields, (*_SHARED, *_OPTIONAL)),
        "intermediate_size": 2 * fields["intermediate_size"],
        **{key: fields[ours] for key, ours in _V1_FIELDS.items()},
        "rotary_pct": 1.0,
        "no_bias": True,
        "scale_attn_weights": True,
    }


def _write_later(fields: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    for field, needed in (("qkv_bias", model_type == "qwen2"), ("qk_norm", model_type == "qwen3")):
        if fields[field] != needed:
            raise _refusal(field, fields[field], [needed])
    hf = _pick(fields, (*_SHARED, *_OPTIONAL, *_LATER)) | {
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "use_cache": True,
    }
    windows = fields["layer_windows"]
    if model_type != "llama" and len(set(windows) - {0}) == 1:
        hf |= {
            "use_sliding_window": True,
            "sliding_window": max(windows),
            "max_window_layers": next(layer for layer, window in enumerate(windows) if window),
            "layer_types": ["sliding_attention" if window else "full_attention" for window in windows],
        }
    elif any(windows):
        hf["layer_windows"] = list(windows)
    if fields["train_len"] != fields["max_position_embeddings"]:
        hf["train_len"] = fields["train_len"]
    return hf | {name: True for name in ("use_dynamic_ntk", "use_logn_attn") if fields[name]}


def _sliding_layers(hf: Mapping[str, Any]) -> list[bool]:
    """Which layers have a sliding window: as in `layer_types`, or else all from `max_window_layers` on."""
    if isinstance(hf.get("layer_types"), list):
        return [kind == "sliding_attention" for kind in hf["layer_types"]]
    first = _counts({"max_window_layers": 28, **hf}, ["max_window_layers"])["max_window_layers"]
    return [layer >= first for layer in range(hf["num_hidden_layers"])]


def _counts(hf: Mapping[str, Any], names: Iterable[str] = _SHARED) -> dict[str, int]:
    """The required integer fields. ConfigError if one is missing or is not an integer."""
    missing = [name for name in names if hf.get(name) is None]
    if missing:
        message = "config.json has no {fields}: add it, or fetch the model again"
        raise ConfigError(tr(message, fields=", ".join(missing)))
    for name in names:
        if type(hf[name]) is not int:
            raise ConfigError(tr("{field} = {value} is not a valid value", field=name, value=repr(hf[name])))
    return {name: hf[name] for name in names}


def _pick(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: fields[name] for name in names if fields.get(name) is not None}


def _refusal(field: str, value: Any, supported: Iterable[Any]) -> ConfigError:
    return ConfigError(
        tr(
            "{field} = {value} is not supported; supported: {supported}",
            field=field,
            value=repr(value),
            supported=", ".join(str(choice) for choice in supported),
        )
    )
