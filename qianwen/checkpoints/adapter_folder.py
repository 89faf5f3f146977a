"""Reads and writes adapter folders in PEFT's format.

    adapter_config.json         base model, rank, alpha, the names of the modules
    adapter_model.safetensors   base_model.model.<module>.lora_A.weight [r, K], .lora_B.weight [N, r]
                                base_model.model.<module>.weight for modules that were trained fully

Adapters for the modules of Qwen v1 (`c_attn`, `w1`, …) load too: the linears that are fused in the file each get a copy
of A, and B is cut along its rows like the weights (`hf_weights.py`). Features other than a low rank (DoRA, biases,
different ranks) are rejected by name. `load.py` loads an adapter with its base model, and `adapter_bank.py` uses many
adapters with one base model.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qianwen.checkpoints.hf_weights import PICKLES, V1_NAMES, pickle_error, read_json
from qianwen.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from qianwen.model.linears.lora import (
    FULL_MODULES,
    LINEARS,
    Adapter,
    FullModule,
    LoraConfig,
    LoraLinear,
    LowRank,
    adapted,
    adapter_dtype,
)
from qianwen.model.transformer import Qwen, replace_module
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_file
from qianwen.runtime.translation import tr

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"

# Fields of unsupported features, and the values that switch these off.
OFF = (None, False, "none", {}, [])
UNSUPPORTED = (
    "bias", "lora_bias", "use_dora", "use_qalora", "use_bdlora", "fan_in_fan_out", "layer_replication",
    "rank_pattern", "alpha_pattern", "trainable_token_indices", "target_parameters",
)  # fmt: skip


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).exists()


def base_of(folder: Path) -> str:
    """The MODEL that the adapter is for. Raises CheckpointError if its config does not name it."""
    base = read_json(folder / CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        message = "{path} does not name its base model: set base_model_name_or_path"
        raise CheckpointError(tr(message, path=folder / CONFIG))
    return base


def write_adapter(model: Qwen, folder: Path, config: LoraConfig, base: str) -> None:
    """Write the adapter of `model` into an existing folder; `base` is its base MODEL."""
    tensors: dict[str, Tensor] = {}
    for name, lora in adapted(model):
        tensors[f"{PREFIX}{name}{A}"], tensors[f"{PREFIX}{name}{B}"] = lora.lora_A.detach(), lora.lora_B.detach()
    full = [*config.modules_to_save]
    is_tied = bool(full) and model.config.tie_word_embeddings
    if is_tied:  # else PEFT would train or load only one of the two tied weights
        full = [*FULL_MODULES]
    for module in full:
        tensors[f"{PREFIX}{FULL_MODULES[module]}.weight"] = model.get_parameter(
            f"{FULL_MODULES[module]}.weight"
        ).detach()
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(config.target_modules),
        "modules_to_save": full or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        **({"ensure_weight_tying": True} if is_tied else {}),
    }
    plans = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    write_safetensors(folder / TENSORS, plans, tensors.values())
    with atomic_file(folder / CONFIG, "w") as file:
        json.dump(settings, file, indent=2, ensure_ascii=False)


def read_adapter(model: Qwen, folder: Path) -> Adapter:
    """The adapter in `folder` for networks like `model`, which does not change.

    Raises CheckpointError for damaged files and for tensors that do not fit the network.
    """
    settings = read_json(folder / CONFIG)
    rank, scale = _rank_and_scale(settings, folder)
    file = _tensors(folder)
    entries = {name.removeprefix(PREFIX): entry.shape for name, entry in file.entries.items()}
    renaming = V1_NAMES if any(name.startswith("transformer.") for name in entries) else ()
    used: set[str] = set()
    linears: dict[str, LowRank] = {}
    for file_name, names in _file_names(model, renaming).items():
        if file_name + A in entries:
            used |= {file_name + A, file_name + B}
            targets = [model.get_submodule(name) for name in names]
            rows = [int(linear.out_features) for linear in targets]  # type: ignore[arg-type]
            shapes = (rank, targets[0].in_features), (sum(rows), rank)
            if (entries[file_name + A], entries.get(file_name + B)) != shapes:
                message = "{path}: the adapter of {name} does not fit this network; is it for another base model?"
                raise CheckpointError(tr(message, path=folder, name=file_name))
            a, b = file.read(PREFIX + file_name + A), file.read(PREFIX + file_name + B)
            linears |= {name: LowRank(a, part, scale) for name, part in zip(names, b.split(rows), strict=True)}
    full = {module: _renamed(f"{name}.weight", renaming) for module, name in FULL_MODULES.items()}
    used |= {name for name in full.values() if name in entries}
    if unused := entries.keys() - used:
        message = "{path}: the network has no module for tensor {name}; is the adapter for another base model?"
        raise CheckpointError(tr(message, path=folder, name=min(unused)))
    return Adapter(linears, {m: file.read(PREFIX + name) for m, name in full.items() if name in entries})


def load_adapter(model: Qwen, folder: Path) -> Qwen:
    """Add the adapter of `folder` to its base network, in place. Returns the network in eval mode."""
    adapter = read_adapter(model, folder)
    for name, change in adapter.linears.items():
        replace_module(model, name, _filled(model.get_submodule(name), change))
    _load_full(model, adapter.full_weights, folder)
    return model.requires_grad_(False).eval()


def _rank_and_scale(settings: dict[str, Any], folder: Path) -> tuple[int, float]:
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if settings.get("peft_type") != "LORA" or type(rank) is not int or rank < 1 or not isinstance(alpha, (int, float)):
        message = "{path}: not a LoRA config: peft_type must be LORA, and r and lora_alpha must be numbers"
        raise CheckpointError(tr(message, path=folder / CONFIG))
    for field in UNSUPPORTED:
        if settings.get(field) not in OFF:
            message = "{path}: {field} = {value} is not supported; merge the adapter with PEFT and load the result"
            raise CheckpointError(tr(message, path=folder / CONFIG, field=field, value=settings[field]))
    return rank, alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _tensors(folder: Path) -> SafetensorsFile:
    if not (folder / TENSORS).exists():
        if pickles := [file for file in sorted(folder.iterdir()) if file.suffix in PICKLES]:
            raise pickle_error(pickles[0])
        raise CheckpointError(tr("{path}: {name} is missing; fetch the rest of the model", path=folder, name=TENSORS))
    return SafetensorsFile(folder / TENSORS)


def _file_names(model: Qwen, renaming: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    """Name of each module in the file → our linears in it, in the order of their rows."""
    linears_of: dict[str, list[str]] = {}
    for name, _ in model.named_modules():
        if name.rpartition(".")[2] in (*LINEARS, "lm_head"):
            linears_of.setdefault(_renamed(f"{name}.", renaming)[:-1], []).append(name)
    return linears_of


def _renamed(name: str, renaming: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in renaming:
        name = name.replace(ours, theirs)
    return name


def _filled(linear: nn.Module, change: LowRank) -> LoraLinear:
    lora = LoraLinear(linear, len(change.a), change.scale)
    dtype = adapter_dtype(linear)
    for parameter, values in ((lora.lora_A, change.a), (lora.lora_B, change.b)):
        parameter.data = values.to(parameter.device, dtype, copy=True)
    return lora


def _load_full(model: Qwen, trained: dict[FullModule, Tensor], folder: Path) -> None:
    """Load the fully trained modules. A tied head becomes a separate one if its weight differs from the embedding."""
    if not trained:
        return
    table = model.model.embed_tokens
    for module, weight in trained.items():
        if weight.shape != table.weight.shape:
            message = "{path}: {name} has shape {found}, the base model {expected}; extend its vocabulary first"
            shapes = {"found": list(weight.shape), "expected": list(table.weight.shape)}
            raise CheckpointError(tr(message, path=folder, name=module, **shapes))
    old, is_tied = table.weight.detach(), model.config.tie_word_embeddings
    embedding, head = trained.get("embed_tokens", old), trained.get("lm_head", old if is_tied else None)
    table.weight = nn.Parameter(embedding.to(old, copy=True))
    if is_tied and isinstance(model.lm_head, nn.Linear) and head is not None and torch.equal(head, embedding):
        model.tie_weights()
    elif head is not None:
        model.config = replace(model.config, tie_word_embeddings=False)
        dtype = model.lm_head.weight.dtype if isinstance(model.lm_head, nn.Linear) else torch.float32
        model.lm_head = nn.Linear(head.size(1), head.size(0), bias=False, device="meta")
        model.lm_head.weight = nn.Parameter(head.to(old.device, dtype, copy=True))
