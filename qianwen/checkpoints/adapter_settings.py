"""`adapter_config.json`: every field of PEFT's `LoraConfig` that changes the computation, read or refused by name.

    r, lora_alpha, use_rslora           the change of a linear is scale · B A, scale = alpha / r or alpha / √r
    rank_pattern, alpha_pattern         another r or alpha for the modules that a pattern names
    init_lora_weights                   `pissa` and `olora` change the base weights first (`lora_init.py`); the others
                                        that are accepted only choose the start of A and B
    ensure_weight_tying                 a tied head follows the embedding
    target_modules, layers_to_transform, layers_pattern, exclude_modules, modules_to_save
                                        which modules there are; the tensors of the file say the same
    fan_in_fan_out                      without effect for linears, in PEFT too

All other fields that change the computation are in `UNSUPPORTED`. A field that is not known at all is ignored with a
warning, as in PEFT.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qianwen.checkpoints.hf_weights import read_json
from qianwen.model.linears.lora_init import INITIAL_PARTS
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.log import notices
from qianwen.runtime.translation import tr

CONFIG = "adapter_config.json"

OFF = (None, False, "none", {}, [], "")  # values that switch a feature off
UNSUPPORTED = (
    "bias", "lora_bias", "use_dora", "use_qalora", "use_bdlora", "layer_replication", "trainable_token_indices",
    "target_parameters", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
    "velora_config", "megatron_config",
)  # fmt: skip
READ = (
    "peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights",
    "ensure_weight_tying", "base_model_name_or_path",
)  # fmt: skip
HARMLESS = (
    "auto_mapping", "corda_config", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "layers_pattern", "layers_to_transform", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_core",
    "modules_to_save", "peft_version", "qalora_group_size", "revision", "runtime_config", "target_modules",
    "task_type", "unsloth_fixed",
)  # fmt: skip
PLAIN_INITS = (None, True, False, "default", "gaussian", "eva", "orthogonal", "mica")  # the base weights stay


@dataclass(frozen=True)
class AdapterSettings:
    """The change of each linear, as far as the config decides it."""

    rank: int
    alpha: float
    use_rslora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    init: str  # a key of INITIAL_PARTS, or empty: training started from the unchanged base weights
    ties_weights: bool

    def rank_of(self, module: str) -> int:
        """The rank of a module by its name in the file."""
        return self.rank_pattern.get(_pattern_of(self.rank_pattern, module), self.rank)

    def scale_of(self, module: str) -> float:
        """The factor of B A."""
        alpha = self.alpha_pattern.get(_pattern_of(self.alpha_pattern, module), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def _pattern_of(patterns: Mapping[str, Any], module: str) -> str:
    """The first pattern that matches the end of a module's name."""
    return next((pattern for pattern in patterns if re.match(rf"(.*\.)?({pattern})$", module)), "")


def read_settings(folder: Path) -> AdapterSettings:
    """The settings of an adapter folder. CheckpointError for a field whose computation is not supported."""
    raw, path = read_json(folder / CONFIG), folder / CONFIG
    rank, alpha = raw.get("r"), raw.get("lora_alpha")
    if raw.get("peft_type") != "LORA" or type(rank) is not int or rank < 1 or not isinstance(alpha, (int, float)):
        message = "{path}: not a LoRA config: peft_type must be LORA, and r and lora_alpha must be numbers"
        raise CheckpointError(tr(message, path=path))
    for field in UNSUPPORTED:
        if raw.get(field) not in OFF:
            message = "{path}: {field} = {value} is not supported; merge the adapter with PEFT and load the result"
            raise CheckpointError(tr(message, path=path, field=field, value=raw[field]))
    unknown = sorted(name for name in raw if name not in (*UNSUPPORTED, *READ, *HARMLESS) and raw[name] not in OFF)
    if unknown:
        message = "{path}: fields that are not known here are ignored: {names}"
        notices.print(tr(message, path=path, names=", ".join(unknown)), style="yellow", markup=False)
    return AdapterSettings(
        rank,
        alpha,
        bool(raw.get("use_rslora")),
        _pattern(raw, "rank_pattern", path),
        _pattern(raw, "alpha_pattern", path),
        _init(raw.get("init_lora_weights"), path),
        bool(raw.get("ensure_weight_tying")),
    )


def _pattern(raw: Mapping[str, Any], field: str, path: Path) -> dict[str, Any]:
    patterns = raw.get(field) or {}
    kind = int if field == "rank_pattern" else (int, float)
    try:
        for pattern, value in patterns.items():
            re.compile(pattern)
            if isinstance(value, bool) or not isinstance(value, kind) or value <= 0:
                raise ValueError(value)
    except (AttributeError, TypeError, ValueError, re.error) as error:
        message = "{path}: {field} = {value} is not valid; it must map patterns of module names to positive numbers"
        raise CheckpointError(tr(message, path=path, field=field, value=patterns)) from error
    return dict(patterns)


def _init(value: Any, path: Path) -> str:
    name = value.lower() if isinstance(value, str) else value
    if name in PLAIN_INITS:
        return ""
    if name in INITIAL_PARTS:
        return name
    message = (
        "{path}: init_lora_weights = {value} changes the base weights in a way that cannot be repeated here; convert "
        "the adapter with PEFT (save_pretrained with path_initial_model_for_weight_conversion), or merge it there"
    )
    raise CheckpointError(tr(message, path=path, value=repr(value)))
