"""`qianwen plan MODEL`: predict the memory of a run, compare it with published figures and with this machine."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.table import Table

from qianwen.cli.arguments import parse
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
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
    """The model: a published size (1.8b, 7b, 14b, 72b, qwen2.5-0.5b, …), a folder, GGUF file, run name or hub id."""
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


def plan(argv: list[str]) -> int:
    """Print the parts, the published figures of this size, and what fits on this machine."""
    options = parse(PlanOptions, "qianwen plan", argv)
    from qianwen.model.linears.lora import LoraConfig
    from qianwen.runtime.device import best_device, free_memory_bytes
    from qianwen.train.plan import memory, published_size

    config = _config(options.model)
    need = memory(
        config,
        options.task,
        options.seq_len,
        bits=options.bits,
        lora=LoraConfig(rank=options.rank),
        recompute=not options.keep_activations,
        gpus=options.gpus,
    )
    console.print(_parts(need, options))
    if name := published_size(config):
        console.print(_beside_published(config, name, options.task))
    free = free_memory_bytes(best_device())
    title = tr("on this machine, {free:.1f} GB free, {tokens} tokens", free=free / GB, tokens=options.seq_len)
    table = Table(title=title, box=None, title_justify="left", header_style="dim")
    for heading in ("", "GB", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for name, size in _choices(config, options.seq_len).items():
        fits = tr("fits") if size <= free else tr("{lack:.1f} GB short", lack=(size - free) / GB)
        table.add_row(name, f"{size / GB:.1f}", fits)
    console.print(table)
    return 0


def _config(model: str) -> "QwenConfig":
    from qianwen.checkpoints.load import base_model, find_model, source_and_shape
    from qianwen.model.config import PRESETS

    return PRESETS[model] if model in PRESETS else source_and_shape(base_model(find_model(model)))[1]


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


def _choices(config: "QwenConfig", seq_len: int) -> dict[str, float]:
    """Task → bytes it needs on this machine."""
    from qianwen.runtime.device import best_device, compute_dtype
    from qianwen.train.plan import memory

    itemsize = compute_dtype(best_device()).itemsize
    tasks: dict[str, float] = {
        tr("generate, {bits} bits", bits=bits): memory(config, "generate", seq_len, bits=bits, itemsize=itemsize).total
        for bits in (4, 8, 16)
    }
    for task in ("qlora", "lora", "full"):
        tasks[task] = memory(config, task, seq_len, itemsize=itemsize).total  # type: ignore[arg-type]
    return tasks
