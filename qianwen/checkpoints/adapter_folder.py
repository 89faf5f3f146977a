"""Reads and writes adapter folders in PEFT's format.

    adapter_config.json         base model, rank, alpha, the names of the modules
    adapter_model.safetensors   base_model.model.<module>.lora_A.weight [r, K], .lora_B.weight [N, r]
                                base_model.model.<module>.weight for modules that were trained fully

Adapters for the modules of Qwen v1 (`c_attn`, `w1`, …) load too: the linears that are fused in the file each get a copy
of A, and B is cut along its rows like the weights (`hf_weights.py`). What the config says about the computation is in
`adapter_settings.py`; features other than a low rank (DoRA, biases) are rejected by name. `load.py` loads an adapter
with its base model, and `adapter_bank.py` uses many adapters with one base model.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from qianwen.checkpoints.adapter_settings import CONFIG, AdapterSettings, read_settings
from qianwen.checkpoints.hf_weights import PICKLES, pickle_error, read_json
from qianwen.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from qianwen.checkpoints.tensor_names import V1_NAMES
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
from qianwen.model.linears.lora_init import INITIAL_PARTS, without_part
from qianwen.model.linears.packed import PackedLinear
from qianwen.model.transformer import Qwen, replace_module
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_file
from qianwen.runtime.translation import tr

TENSORS = "adapter_model.safetensors"
PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"
FLAT_NAMES = (("model.layers.", "layers."), ("model.embed_tokens.", "embed_tokens."))  # of a network without a head


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
    settings, file = read_settings(folder), _tensors(folder)
    entries = {name.removeprefix(PREFIX): entry.shape for name, entry in file.entries.items()}
    renaming = _renaming(entries)
    used: set[str] = set()
    linears: dict[str, LowRank] = {}
    for file_name, names in _file_names(model, renaming).items():
        if file_name + A in entries:
            used |= {file_name + A, file_name + B}
            targets = [model.get_submodule(name) for name in names]
            rows = [int(linear.out_features) for linear in targets]  # type: ignore[arg-type]
            rank = settings.rank_of(file_name)
            shapes = (rank, targets[0].in_features), (sum(rows), rank)
            if (entries[file_name + A], entries.get(file_name + B)) != shapes:
                message = "{path}: the adapter of {name} does not fit this network; is it for another base model?"
                raise CheckpointError(tr(message, path=folder, name=file_name))
            a, b = file.read(PREFIX + file_name + A), file.read(PREFIX + file_name + B)
            change = LowRank(a, b, settings.scale_of(file_name))
            if settings.init:
                change = _from_original(change, targets, settings, folder)
            parts = change.b.split(rows)
            linears |= {name: replace(change, b=part) for name, part in zip(names, parts, strict=True)}
    full = {module: _renamed(f"{name}.weight", renaming) for module, name in FULL_MODULES.items()}
    used |= {name for name in full.values() if name in entries}
    if unused := entries.keys() - used:
        message = "{path}: the network has no module for tensor {name}; is the adapter for another base model?"
        raise CheckpointError(tr(message, path=folder, name=min(unused)))
    weights = {m: file.read(PREFIX + name) for m, name in full.items() if name in entries}
    if settings.ties_weights and model.config.tie_word_embeddings and weights:
        weights = dict.fromkeys(FULL_MODULES, next(iter(weights.values())))
    return Adapter(linears, weights)


def load_adapter(model: Qwen, folder: Path) -> Qwen:
    """Add the adapter of `folder` to its base network, in place. Returns the network in eval mode."""
    adapter = read_adapter(model, folder)
    for name, change in adapter.linears.items():
        replace_module(model, name, _filled(model.get_submodule(name), change))
    _load_full(model, adapter.full_weights, folder)
    return model.requires_grad_(False).eval()


def _renaming(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    first = {name.partition(".")[0] for name in names}
    return V1_NAMES if "transformer" in first else FLAT_NAMES if "layers" in first else ()


def _from_original(change: LowRank, targets: list[nn.Module], settings: AdapterSettings, folder: Path) -> LowRank:
    """The change of the original weights, for an adapter whose training took a part out of them first."""
    bases = [target.base if isinstance(target, LoraLinear) else target for target in targets]
    weights = [base.weight for base in bases if isinstance(base, nn.Linear)]
    weights += [base.dequantize() for base in bases if isinstance(base, PackedLinear) and base.format == "bf16"]
    if len(weights) != len(bases):
        message = (
            "{path}: an adapter with init_lora_weights = {init} needs the weights of its training, but the base model "
            "is loaded with fewer bits; load it with 16 bits, or export it to one model first"
        )
        raise CheckpointError(tr(message, path=folder / CONFIG, init=settings.init))
    weight = torch.cat([each.detach().float() for each in weights])
    return without_part(change, INITIAL_PARTS[settings.init](weight, len(change.a), change.scale))


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
