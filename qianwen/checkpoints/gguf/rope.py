"""The rotary positions of a GGUF file: `rope.scaling.*` and `rope_freqs.weight` of llama.cpp ↔ `RopeState`.

    linear      factor; also the meaning of a factor without a type
    yarn        factor, original_context_length; attn_factor is relative to the usual temperature. Converters also write
                yarn_beta_fast, yarn_beta_slow and yarn_attn_factor, which llama.cpp reads for other architectures only;
                here they have the meaning of the folder that was converted
    llama3      no keys: the tensor rope_freqs.weight (architecture llama) has the divisor of each pair's frequency

The numbers of a Llama-3 scaling are not in the files of llama.cpp, whose converter assumes an original length of 8,192
and the bounds 1 and 4. We write them under a key of our own, and read only numbers that give the tensor of the
file. `rope.scaling.finetuned` says whether the scaling acts on short texts too (`checkpoints/rope_scaling.py`).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qianwen.checkpoints.gguf.file import GgufFile
from qianwen.checkpoints.hf_rope import attention_factor, yarn_temperature
from qianwen.checkpoints.rope_scaling import scaling_fields
from qianwen.model.config import QwenConfig
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

PAIR_DIVISORS = "rope_freqs.weight"  # tensor, [d / 2]
LLAMA3_NUMBERS = "qianwen.rope_scaling.llama3"  # factor, original length, low_freq_factor, high_freq_factor
LLAMA3_USUAL = (8192, 1.0, 4.0)  # the numbers of all Llama 3.1 to 3.3 models, without the factor


def read_scaling(file: GgufFile, arch: str, config: QwenConfig) -> dict[str, Any]:
    """The fields of a `QwenConfig` that the scaling of `file` gives. ConfigError if it cannot be computed."""
    scaling = _from_keys(file, arch)
    if arch == "llama" and PAIR_DIVISORS in file.tensors:
        divided = _llama3(file, config)
        if "none" not in (divided.method, scaling.method):
            message = "{path}: rope scaling {scaling!r} together with {tensor} is not supported"
            raise ConfigError(tr(message, path=file.path, scaling=scaling.method, tensor=PAIR_DIVISORS))
        scaling = divided if scaling.method == "none" else scaling
    trained = file.metadata.get(f"{arch}.rope.scaling.finetuned")
    is_trained = trained if isinstance(trained, bool) else None
    return scaling_fields(scaling, config.max_position_embeddings, arch, is_trained=is_trained)


def _from_keys(file: GgufFile, arch: str) -> RopeState:
    prefix = f"{arch}.rope.scaling"
    kind = file.metadata.get(f"{prefix}.type", "linear")
    # As in llama.cpp: 0 means 1, and the older key counts if the new one is missing.
    factor = file.number(f"{prefix}.factor", file.number(f"{arch}.rope.scale_linear", 1)) or 1
    if kind not in ("none", "linear", "yarn"):
        message = "{path}: rope scaling {scaling!r} is not supported; supported: none, linear, yarn"
        raise ConfigError(tr(message, path=file.path, scaling=kind))
    usual = {"yarn_ext_factor": (-1, 1 if kind == "yarn" else 0), "yarn_log_multiplier": (0,)}
    if kind != "yarn":
        usual["attn_factor"] = (1,)
    for name, values in usual.items():
        if (value := file.number(f"{prefix}.{name}", values[0])) not in values:
            message = "{path}: {key} = {value} is not supported with rope scaling {kind!r}; supported: {supported}"
            names = {"key": f"{prefix}.{name}", "supported": ", ".join(map(str, values))}
            raise ConfigError(tr(message, path=file.path, value=value, kind=kind, **names))
    if kind == "none" or factor == 1:
        return RopeState()
    key = f"{prefix}.original_context_length"
    original = file.number(key if key in file.metadata or kind == "linear" else f"{arch}.context_length", 0)
    if original % 1 != 0:
        message = "{path}: metadata {key} is {value!r}, but must be a number"
        raise ConfigError(tr(message, path=file.path, key=key, value=original))
    if kind == "linear":
        return _state(file, method="linear", factor=factor, original_len=int(original))
    betas = {
        name: file.number(f"{prefix}.yarn_{name}", default) for name, default in (("beta_fast", 32), ("beta_slow", 1))
    }
    return _state(
        file,
        method="yarn",
        factor=factor,
        original_len=int(original),
        attention_factor=_attention_factor(file, prefix, factor),
        **betas,
    )


def _attention_factor(file: GgufFile, prefix: str, factor: float) -> float:
    """YaRN's temperature as a field of `RopeState`: the shortest decimal number that gives the float32 of the file."""
    usual, older = yarn_temperature(factor), f"{prefix}.yarn_attn_factor"
    key = f"{prefix}.attn_factor" if f"{prefix}.attn_factor" in file.metadata else older
    if not file.number(key, 0) > 0 or (key == older and math.isclose(file.number(key), usual, rel_tol=1e-6)):
        return 0.0  # not given; or the temperature itself, which the older key may hold too
    stored = np.float32(file.metadata[key])
    values = (float(f"{float(stored) * usual:.{digits}g}") for digits in range(1, 9))
    value = next((value for value in values if np.float32(value / usual) == stored), float(stored) * usual)
    return attention_factor(value, factor)


def _llama3(file: GgufFile, config: QwenConfig) -> RopeState:
    """The Llama-3 scaling whose divisors are the tensor of the file."""
    divisors = file.tensors[PAIR_DIVISORS].dequantize()
    for factor, original, low, high in _llama3_numbers(file, divisors.max().item()):
        numbers = {"original_len": int(original), "low_freq_factor": low, "high_freq_factor": high}
        state = _state(file, method="llama3", factor=factor, **numbers)
        own = pair_divisors(state, config)
        if own.shape == divisors.shape and torch.allclose(own, divisors, rtol=1e-4, atol=0):
            return RopeState() if factor == 1 else state
    message = (
        "{path}: {tensor} has divisors of frequencies that are not those of Llama 3 (original length 8,192); convert "
        "the model from its folder with `qianwen export`"
    )
    raise ConfigError(tr(message, path=file.path, tensor=PAIR_DIVISORS))


def _llama3_numbers(file: GgufFile, largest: float) -> Iterator[tuple[float, ...]]:
    own = file.metadata.get(LLAMA3_NUMBERS)
    if isinstance(own, np.ndarray) and own.shape == (4,) and np.isfinite(own).all():
        yield tuple(float(f"{number:.7g}") for number in own)
    yield float(f"{largest:.7g}"), *LLAMA3_USUAL


def _state(file: GgufFile, **values: Any) -> RopeState:
    try:
        return RopeState(**values)
    except ConfigError as error:
        raise ConfigError(f"{file.path}: {error}") from error


def pair_divisors(scaling: RopeState, config: QwenConfig) -> Tensor:
    """What divides the plain frequency of each pair in a Llama-3 scaling, [d / 2]."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    turns = scaling.original_len / (2 * math.pi) * config.rope_theta**-exponents
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - smooth) / scaling.factor + smooth)).float()


def scaling_metadata(config: QwenConfig, arch: str) -> dict[str, Any]:
    """The keys of a file, without the architecture before them. ConfigError if llama.cpp would compute otherwise."""
    scaling = config.rope_scaling
    if scaling.method in ("none", "dynamic_ntk"):  # dynamic scaling changes nothing up to the context length
        return {}
    _check_expressible(config, arch)
    keys: dict[str, Any] = {"finetuned": config.scaling_from == 0}
    if scaling.method != "llama3":
        keys |= {"type": scaling.method, "factor": scaling.factor}
    if scaling.original_len and scaling.method != "llama3":
        keys["original_context_length"] = scaling.original_len
    if scaling.method == "yarn" and scaling.attention_factor:
        keys["attn_factor"] = scaling.attention_factor / yarn_temperature(scaling.factor)
    metadata: dict[str, Any] = {f"{arch}.rope.scaling.{name}": value for name, value in keys.items()}
    if scaling.method == "llama3":
        numbers = scaling.factor, scaling.original_len, scaling.low_freq_factor, scaling.high_freq_factor
        metadata[LLAMA3_NUMBERS] = np.array(numbers, dtype=np.float32)
    return metadata


def _check_expressible(config: QwenConfig, arch: str) -> None:
    scaling = config.rope_scaling
    problems = {
        "llama3": scaling.method == "llama3" and arch != "llama",
        "truncate = false": scaling.method == "yarn" and not scaling.truncate,
        "beta_fast and beta_slow": scaling.method == "yarn" and (scaling.beta_fast, scaling.beta_slow) != (32, 1),
        f"scaling_from = {config.scaling_from}": config.scaling_from not in (0, scaling.original_len),
    }
    for name, is_problem in problems.items():
        if is_problem:
            message = (
                "GGUF has no key for {value} of rope scaling {kind} in the architecture {arch}; export to a folder"
            )
            raise ConfigError(tr(message, value=name, kind=scaling.method, arch=arch))
