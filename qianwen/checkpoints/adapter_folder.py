"""Adapter folders in PEFT's format, both ways.

    adapter_config.json         base model, rank, alpha, which modules
    adapter_model.safetensors   base_model.model.<module>.lora_A.weight [r, K], .lora_B.weight [N, r]
                                base_model.model.<module>.weight for what was trained whole

Adapters made for Qwen v1's own modules (`c_attn`, `w1`, …) load too: those who share a file's A each get a copy, and B
is cut along its rows, as the weights are (`hf_weights.py`). What changes more than a low rank does (DoRA, biases, ranks
that differ by module) is refused by name. Not here: the base. `load.py` joins the two, `adapter_bank.py` many adapters
with one.
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
    LINEARS,
    WHOLE_NAMES,
    Adapter,
    LoraConfig,
    LoraLinear,
    LowRank,
    Whole,
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

# Fields that mean something else than this file reads, unless they have one of these values.
PLAIN = (None, False, "none", {}, [])
UNREAD = (
    "bias", "lora_bias", "use_dora", "use_qalora", "use_bdlora", "fan_in_fan_out", "layer_replication",
    "rank_pattern", "alpha_pattern", "trainable_token_indices", "target_parameters",
)  # fmt: skip


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).exists()


def base_of(folder: Path) -> str:
    """What the adapter was made for, as a MODEL. Raises CheckpointError where its config does not say."""
    base = read_json(folder / CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        message = "{path} does not say which model it is for: set base_model_name_or_path"
        raise CheckpointError(tr(message, path=folder / CONFIG))
    return base


def write_adapter(model: Qwen, folder: Path, config: LoraConfig, base: str) -> None:
    """Write the adapter of `model` into an existing folder; `base` is the MODEL it goes on."""
    tensors: dict[str, Tensor] = {}
    for name, lora in adapted(model):
        tensors[f"{PREFIX}{name}{A}"], tensors[f"{PREFIX}{name}{B}"] = lora.lora_A.detach(), lora.lora_B.detach()
    whole = [*config.modules_to_save]
    is_tied = bool(whole) and model.config.tie_word_embeddings
    if is_tied:  # PEFT would otherwise train or load one of the two apart from the other
        whole = [*WHOLE_NAMES]
    for module in whole:
        tensors[f"{PREFIX}{WHOLE_NAMES[module]}.weight"] = model.get_parameter(f"{WHOLE_NAMES[module]}.weight").detach()
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(config.target_modules),
        "modules_to_save": whole or None,
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
    """The adapter in `folder`, which was made for networks like `model`; that one stays as it is.

    Raises CheckpointError for broken files and for what does not fit the network.
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
                message = "{path}: the adapter of {name} has other shapes than this network: is it made for another?"
                raise CheckpointError(tr(message, path=folder, name=file_name))
            a, b = file.read(PREFIX + file_name + A), file.read(PREFIX + file_name + B)
            linears |= {name: LowRank(a, part, scale) for name, part in zip(names, b.split(rows), strict=True)}
    whole = {module: _renamed(f"{name}.weight", renaming) for module, name in WHOLE_NAMES.items()}
    used |= {name for name in whole.values() if name in entries}
    if strays := entries.keys() - used:
        message = "{path}: tensor {name} has no place in this network: is the adapter made for another?"
        raise CheckpointError(tr(message, path=folder, name=min(strays)))
    return Adapter(linears, {m: file.read(PREFIX + name) for m, name in whole.items() if name in entries})


def load_adapter(model: Qwen, folder: Path) -> Qwen:
    """Put the adapter of `folder` on the network it was made for. Returns it, in eval mode."""
    adapter = read_adapter(model, folder)
    for name, change in adapter.linears.items():
        replace_module(model, name, _filled(model.get_submodule(name), change))
    _load_whole(model, adapter.whole, folder)
    return model.requires_grad_(False).eval()


def _rank_and_scale(settings: dict[str, Any], folder: Path) -> tuple[int, float]:
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if settings.get("peft_type") != "LORA" or type(rank) is not int or rank < 1 or not isinstance(alpha, (int, float)):
        message = "{path}: not the config of a LoRA adapter (peft_type LORA, r, lora_alpha)"
        raise CheckpointError(tr(message, path=folder / CONFIG))
    for field in UNREAD:
        if settings.get(field) not in PLAIN:
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
    """A file's module → our linears in it, one below the other."""
    found: dict[str, list[str]] = {}
    for name, _ in model.named_modules():
        if name.rpartition(".")[2] in (*LINEARS, "lm_head"):
            found.setdefault(_renamed(f"{name}.", renaming)[:-1], []).append(name)
    return found


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


def _load_whole(model: Qwen, trained: dict[Whole, Tensor], folder: Path) -> None:
    """Take the modules trained whole. A tied head parts from its embedding where they were not trained as one."""
    if not trained:
        return
    table = model.model.embed_tokens
    for module, weight in trained.items():
        if weight.shape != table.weight.shape:
            message = "{path}: {name} has shape {found}, the base has {expected}: extend the base's vocabulary first"
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
