"""Memory beside the tables of the Qwen README: predicted for every cell, measured for those that are asked for.

    python benchmarks/memory.py [--generate 1.8b:4,7b:4] [--finetune 1.8b:qlora:256+512,7b:qlora:256]
        [--tokens 2048] [--device cpu|cuda] [--at-once 1]

Measured is a process of its own: on a CPU the peak of resident memory, Python and PyTorch included; on a GPU the most
that was allocated, as the published figures are. Weights are random: one layer's are drawn and quantised, the others
are copies of it; what drawing took is not counted. Generating is an answer of `--tokens` to a prompt of one token over
a cache of 16 bits; fine-tuning two steps of one sequence, rank 64 around every linear, layers recomputed. `--at-once`
processes share a GPU; their speeds then say nothing. A ratio above 1 is less than the published figure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from finetune import stepper
from pairs import Report, arguments, console
from rich.table import Table
from torch import Tensor, nn

from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.request import Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.config import PRESETS, QwenConfig
from qianwen.model.linears.nf4 import Nf4Linear
from qianwen.model.linears.packed import FORMAT_OF_BITS, HEAD_BITS, PackedLinear, finish, linear_norms, owned, to_device
from qianwen.model.transformer import Qwen, replace_module
from qianwen.runtime.device import peak_memory_bytes
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary
from qianwen.train.plan import memory, published

Make = Callable[[Tensor], nn.Module]  # a weight [N, K] → its linear, without a bias
Again = Callable[[Any], nn.Module]  # such a linear → another one of the same weights, in memory of its own


def random_model(config: QwenConfig, device: torch.device, make: Make, again: Again, head: Make) -> Qwen:
    """A network of random weights that was never larger than it is in the end, but for one matrix."""
    with torch.device("meta"):
        model = Qwen(config)
    for name, _ in list(linear_norms(model)):
        prefix, _, rest = name.removeprefix("model.layers.").partition(".")
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        if name == "lm_head" or prefix == "0":
            weight = torch.randn(linear.weight.shape, dtype=torch.bfloat16, device=device) * 0.02
            made = (head(weight) if name == "lm_head" else make(weight)).to(device)
        else:
            made = again(model.get_submodule(f"model.layers.0.{rest}"))
        if linear.bias is not None:
            bias = torch.zeros(linear.out_features, dtype=torch.bfloat16, device=device)
            made.bias = nn.Parameter(bias, requires_grad=False) if isinstance(made, nn.Linear) else bias.float()
        replace_module(model, name, made)
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            owner, _, leaf = name.rpartition(".")
            drawn = torch.ones if leaf == "weight" and "norm" in name else torch.randn
            value = drawn(parameter.shape, dtype=torch.bfloat16, device=device)
            setattr(model.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
    return model


def packed(bits: int) -> tuple[Make, Again, Make]:
    def make(weight: Tensor) -> nn.Module:
        return PackedLinear.from_float(weight.cpu(), format=FORMAT_OF_BITS[bits])

    def again(linear: Any) -> nn.Module:
        return PackedLinear(linear.format, owned(linear.packed), linear.out_features, linear.in_features)

    def head(weight: Tensor) -> nn.Module:
        return PackedLinear.from_float(weight.cpu(), format=FORMAT_OF_BITS[max(bits, HEAD_BITS)])

    return make, again, head


def floats() -> tuple[Make, Again, Make]:
    def make(weight: Tensor) -> nn.Module:
        linear = nn.Linear(*reversed(weight.shape), bias=False, device="meta")
        linear.weight = nn.Parameter(weight, requires_grad=False)
        return linear

    return make, lambda linear: make(linear.weight.clone()), make


def four_bits() -> tuple[Make, Again, Make]:
    def again(linear: Any) -> nn.Module:
        codes, scales, tops, mean = (part.clone() for part in (linear.codes, linear.scales, linear.tops, linear.mean))
        return Nf4Linear(codes, scales, tops, mean, (linear.out_features, linear.in_features))

    return Nf4Linear.from_float, again, floats()[0]


def generate(device: torch.device, size: str, bits: str, tokens: str) -> Iterator[float]:
    """Answer with so many tokens to a prompt of one."""
    is_float = bits == "16" and device.type == "cuda"
    model = finish(random_model(PRESETS[size], device, *(floats() if is_float else packed(int(bits)))))
    model = to_device(model, device)
    forget_peak(device)
    vocabulary = Vocabulary({bytes([value]): value for value in range(256)}, {"<|endoftext|>": 256}, r"\S+|\s+")
    engine = LLMEngine(
        model,
        Tokenizer(vocabulary),
        EngineConfig(max_model_len=int(tokens) + 1, max_num_seqs=1, kv_cache_dtype="bfloat16"),
    )
    began, count = time.perf_counter(), 0
    engine.add_request(Request((1,), SamplingParams(temperature=0, max_tokens=int(tokens), ignore_eos=True)))
    while engine.has_work:
        count += sum(len(output.token_ids) for output in engine.step())
    assert count == int(tokens)
    yield count / (time.perf_counter() - began)


def finetune(device: torch.device, size: str, method: str, lengths: str) -> Iterator[float]:
    """Two steps over one sequence of each length."""
    model = random_model(PRESETS[size], device, *(four_bits() if method == "qlora" else floats()))
    forget_peak(device)
    batch: dict[str, Tensor] = {}
    step = stepper(model, method, [batch], recompute=True)
    for tokens in map(int, lengths.split("+")):
        ids = torch.randint(0, 1000, (1, tokens))
        batch |= {"input_ids": ids, "labels": ids, "positions": torch.arange(tokens)[None]}
        began = time.perf_counter()
        for _ in range(2):
            step()
        yield 2 * tokens / (time.perf_counter() - began)


def child(device: str, kind: str, *of: str) -> None:
    """Speed and peak of every length, one line each."""
    for speed in {"generate": generate, "finetune": finetune}[kind](torch.device(device), *of):
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory_bytes()
        print(json.dumps({"tok/s": speed, "GB": peak / 1e9}), flush=True)
        forget_peak(torch.device(device))


def forget_peak(device: torch.device) -> None:
    """Let the peak of memory begin anew from what is in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def measured(device: str, kind: str, *of: str) -> dict[str, dict[str, float]]:
    """What a process of its own says of itself, by cell."""
    command = [sys.executable, __file__, "--child", device, kind, *of]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        console.print(f"{kind} {' '.join(of)}: ended early, with {done.returncode}", style="yellow", highlight=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    cells = {f"{kind} {of[0]} {of[1]} {tokens}": line for tokens, line in zip(of[2].split("+"), lines, strict=False)}
    for name, line in cells.items():
        console.print(f"{name}: {line['GB']:.2f} GB, {line['tok/s']:.1f} tok/s", highlight=False)
    return cells


def predicted(kind: str, size: str, method: str, tokens: int) -> float:
    """GB, without Python and PyTorch, as published peaks are."""
    task: Any = "generate" if kind == "generate" else method
    found = memory(PRESETS[size], task, tokens, bits=int(method) if kind == "generate" else 16)
    return (found.total - found.parts["libraries"]) / 1e9


def show(kind: str, cells: list[tuple[str, str, int, float]], peaks: dict[str, dict[str, float]]) -> None:
    table = Table(title=kind, box=None, title_justify="left", header_style="dim")
    for heading in ("size", "bits" if kind == "generate" else "method", "tokens", "published", "predicted", "measured"):
        table.add_column(heading, justify="right")
    for size, method, tokens, figure in cells:
        ours = predicted(kind, size, method, tokens)
        peak = peaks.get(f"{kind} {size} {method} {tokens}", {}).get("GB")
        style = None if max(ours, peak or 0) <= figure else "yellow"
        shown = f"{peak:.2f}" if peak else ""
        table.add_row(size, method, str(tokens), f"{figure:.2f}", f"{ours:.2f}", shown, style=style)
    console.print(table)


def main() -> None:
    if "--child" in sys.argv:
        child(*sys.argv[sys.argv.index("--child") + 1 :])
        return
    options = arguments(__doc__, generate="", finetune="", tokens=2048, device="cpu", at_once=1)
    tables = published()
    cells = {
        "generate": [(size, bits, 2048, gb) for size, row in tables["generate"].items() for bits, gb in row.items()],
        "finetune": [
            (size, method, int(tokens), gb)
            for size, methods in tables["finetune"].items()
            for method, row in methods.items()
            for tokens, gb in row.items()
        ],
    }
    asked = [("generate", *cell.split(":"), str(options.tokens)) for cell in options.generate.split(",") if cell]
    asked += [("finetune", *cell.split(":")) for cell in options.finetune.split(",") if cell]
    report, peaks, ratios = Report("memory beside the published tables", "GB"), {}, {}
    with ThreadPoolExecutor(options.at_once) as pool:
        for found in pool.map(lambda cell: measured(options.device, *cell), asked):
            peaks |= found
    for kind, rows in cells.items():
        show(kind, rows, peaks)
    figures = {" ".join(map(str, (kind, *cell))): gb for kind, rows in cells.items() for *cell, gb in rows}
    for name, line in peaks.items():
        kind, size, method, tokens = name.split()
        line |= {"predicted GB": predicted(kind, size, method, int(tokens))}
        if name in figures:
            line["published GB"] = figures[name]
            ratios[name.replace(" ", "_")] = figures[name] / line["GB"]
    report.note("measured", peaks)
    above = {
        kind: [
            f"{size} {method} {tokens}"
            for size, method, tokens, gb in rows
            if predicted(kind, size, method, tokens) > gb
        ]
        for kind, rows in cells.items()
    }
    report.note("predicted above the published figure", above)
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
