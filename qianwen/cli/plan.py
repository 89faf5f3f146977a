"""`qianwen plan MODEL|RECIPE`: predict the memory of a run, compare it with published figures and with this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.table import Table

from qianwen.cli.arguments import is_recipe, parse
from qianwen.cli.long_context_options import window_sizes
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.align.sft_config import SFTConfig
    from qianwen.model.config import QwenConfig
    from qianwen.train.plan import Memory

GB = 1e9
PARTS = {
    "weights": "weights",
    "trained": "trained weights, gradients, moments",
    "activations": "activations",
    "cache": "keys and values",
    "logits": "logits",
    "work": "work space",
    "libraries": "libraries",
}


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Predict the memory of a run, part by part, from the shape of the model. No weights are loaded."""

    model: Annotated[str, tyro.conf.Positional]
    """The model: a published size (1.8b, 7b, 14b, 72b, qwen2.5-0.5b, …), a folder, GGUF file, run name or hub id; or a
    recipe of `qianwen sft` such as qwen_7b:sft, whose settings are then the defaults of the other options."""
    task: Literal["generate", "qlora", "lora", "full"] = "generate"
    """What to run: generation, or fine-tuning with Q-LoRA, LoRA or all weights."""
    seq_len: int = 2048
    """Tokens of a training sequence, or of prompt and answer together."""
    gpus: int = 1
    """Number of GPUs that share the weights, gradients and optimizer state."""
    bits: Literal[4, 5, 8, 16] = 4
    """Bits per weight; only for generation."""
    keep_activations: bool = False
    """Store the activations for the backward pass instead of recomputing them."""
    rank: int = 64
    """Rank of the LoRA adapter."""
    kv_cache_dtype: Literal["auto", "bfloat16", "int8"] = "auto"
    """Number format of the key-value cache; only for generation. int8: half the memory of bfloat16."""
    windows: str = ""
    """Attention windows in tokens, from low to high layers in equal groups, such as 2048,4096,full. Default: as in the
    model's files."""


def plan(argv: list[str]) -> int:
    """Print the parts, the published figures of this size, and what fits on this machine."""
    options = parse(PlanOptions, "qianwen plan", argv, default=_recipe_defaults(argv))
    from qianwen.runtime.device import best_device, free_memory_bytes
    from qianwen.train.plan import published_size

    config = _config(_model_of(options.model), window_sizes(options.windows))
    method = method_line(config, options.seq_len) if options.task == "generate" else ""
    console.print(_parts(_need(config, options), options))
    if method:
        console.print(method, markup=False)
    if name := published_size(config):
        console.print(_beside_published(config, name, options.task))
    free = free_memory_bytes(best_device())
    title = tr("on this machine, {free:.1f} GB free, {tokens} tokens", free=free / GB, tokens=options.seq_len)
    table = Table(title=title, box=None, title_justify="left", header_style="dim")
    for heading in ("", "GB", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for name, size in _choices(config, options).items():
        fits = tr("fits") if size <= free else tr("{lack:.1f} GB short", lack=(size - free) / GB)
        table.add_row(name, f"{size / GB:.1f}", fits)
    console.print(table)
    return 0


def _recipe_defaults(argv: list[str]) -> PlanOptions | None:
    """The options that the recipe in `argv` gives; None if there is none."""
    spec = next((word for word in argv if is_recipe(word)), "")
    if not spec:
        return None
    recipe = _recipe(spec)
    return PlanOptions(
        model=spec,
        task=recipe.method,
        seq_len=recipe.seq_len,
        keep_activations=not recipe.checkpoint_activations,
        rank=recipe.lora.rank,
    )


def _recipe(spec: str) -> "SFTConfig":
    from qianwen.align.sft_config import SFTConfig
    from qianwen.recipes import load_recipe

    return load_recipe(spec, SFTConfig, "sft")


def _model_of(spec: str) -> str:
    """The model that a recipe fine-tunes; any other name as it is."""
    return _recipe(spec).model if is_recipe(spec) else spec


def _preset(model: str) -> str:
    """The preset of a released model: `7b` for Qwen/Qwen-7B. Its shape is known without its files."""
    owner, _, name = model.partition("/")
    return name.lower().replace("_", ".").removeprefix("qwen-") if owner == "Qwen" else model


def _config(model: str, windows: Sequence[int]) -> "QwenConfig":
    from qianwen.checkpoints.load import base_model, find_model, source_and_shape
    from qianwen.model.config import PRESETS
    from qianwen.model.long_context import layer_windows

    config = (
        PRESETS[model] if (model := _preset(model)) in PRESETS else source_and_shape(base_model(find_model(model)))[1]
    )
    if not windows:
        return config
    return replace(config, layer_windows=layer_windows(config.num_hidden_layers, list(windows)))


def method_line(config: "QwenConfig", seq_len: int) -> str:
    """How a text beyond the trained length is read; empty for a shorter one. ConfigError if no method covers it."""
    from qianwen.model.long_context import covered_len, extension_for, method_beyond, proposed_extensions

    values = {"tokens": seq_len, "train_len": config.train_len}
    extension = extension_for(config, seq_len)
    if extension is None:
        longest = max(covered_len(config, each) for each in proposed_extensions(config))
        message = (
            "no method covers {tokens:,} tokens: this model was trained on {train_len:,} and reads up to {longest:,}"
        )
        raise ConfigError(tr(message, **values, longest=longest))
    if seq_len <= config.train_len:
        return ""
    if extension.rope == "auto":
        message = "{tokens:,} tokens are more than the trained length of {train_len:,}: read with {method}, by default"
        return tr(message, **values, method=method_beyond(config, extension))
    message = (
        "{tokens:,} tokens are more than the trained length of {train_len:,}: use --rope {method} --context {tokens}"
    )
    return tr(message, **values, method=extension.rope)


def _need(config: "QwenConfig", options: PlanOptions) -> "Memory":
    from qianwen.model.linears.lora import LoraConfig
    from qianwen.train.plan import generation_memory, memory

    if options.task == "generate":
        cache, gpus = options.kv_cache_dtype, options.gpus
        return generation_memory(config, options.seq_len, bits=options.bits, kv_cache=cache, gpus=gpus)
    lora, recompute = LoraConfig(rank=options.rank), not options.keep_activations
    return memory(config, options.task, options.seq_len, lora=lora, recompute=recompute, gpus=options.gpus)


def _parts(need: "Memory", options: PlanOptions) -> Table:
    what = tr("generate, {bits} bits", bits=options.bits) if options.task == "generate" else options.task
    title = tr("{model}: {what}, {tokens} tokens", model=options.model, what=what, tokens=options.seq_len)
    table = Table(title=title, box=None, title_justify="left", header_style="dim")
    table.add_column("")
    table.add_column(tr("GB per device") if options.gpus > 1 else "GB", justify="right")
    for part, size in need.parts.items():
        table.add_row(tr(PARTS[part]), f"{size / GB:.2f}")
    table.add_row(tr("total"), f"{need.total / GB:.2f}", style="bold")
    if options.gpus > 1:
        table.add_row(tr("all devices"), f"{need.total * options.gpus / GB:.2f}")
    return table


def _beside_published(config: "QwenConfig", size: str, task: str) -> Table:
    """Table of published and predicted peaks. Published peaks do not count the libraries, so ours do not either."""
    from qianwen.train.plan import memory, published

    is_generate = task == "generate"
    table = Table(title=tr("compared with the published peaks"), box=None, title_justify="left", header_style="dim")
    first = tr("bits per weight") if is_generate else tr("sequence length (tokens)")
    for heading in (first, tr("published GB"), tr("predicted GB")):
        table.add_column(heading, justify="right")
    figures = published()["generate"][size] if is_generate else published()["finetune"][size].get(task, {})
    for key, figure in figures.items():
        need = memory(config, "generate", 2048, bits=int(key)) if is_generate else memory(config, task, int(key))  # type: ignore[arg-type]
        ours = (need.total - need.parts["libraries"]) / GB
        table.add_row(key, f"{figure:.2f}", f"{ours:.2f}", style=None if ours <= figure else "yellow")
    return table


def _choices(config: "QwenConfig", options: PlanOptions) -> dict[str, float]:
    """Task → bytes it needs on this machine."""
    from qianwen.runtime.device import best_device, compute_dtype
    from qianwen.train.plan import generation_memory, memory

    seq_len, itemsize = options.seq_len, compute_dtype(best_device()).itemsize
    tasks: dict[str, float] = {}
    for bits in (4, 8, 16):
        need = generation_memory(config, seq_len, bits=bits, kv_cache=options.kv_cache_dtype, itemsize=itemsize)
        tasks[tr("generate, {bits} bits", bits=bits)] = need.total
    for task in ("qlora", "lora", "full"):
        tasks[task] = memory(config, task, seq_len, itemsize=itemsize).total  # type: ignore[arg-type]
    return tasks
