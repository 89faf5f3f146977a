"""`qianwen bench`: the speed of prefill and decoding on this machine, and the memory they need."""

import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.table import Table

from qianwen.checkpoints.load import Bits
from qianwen.cli.arguments import parse
from qianwen.cli.long_context_options import AS_STORED, LongContextOptions
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import CacheDtype, EngineConfig, LLMEngine
from qianwen.engine.request import Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.kernels.cpu import operators
from qianwen.kernels.dispatch import description
from qianwen.model.linears.packed import PackedLinear
from qianwen.runtime.device import memory_in_use_bytes, peak_memory_bytes
from qianwen.runtime.files import write_jsonl
from qianwen.runtime.log import console
from qianwen.runtime.processor import cpu_name
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class BenchOptions:
    """Measure the speed of prefill and decoding at several batch sizes. Prompts are random tokens; the end token is
    ignored."""

    model: tyro.conf.Positional[str]
    """The model: a folder, GGUF file, run name or hub id."""
    bits: Bits = "stored"
    """Bits per weight: `stored`: as on disk; 4, 5, 8, 16: packed for the fast kernels; None: unpacked floats."""
    prompt_tokens: int = 512
    """Length of each prompt in tokens."""
    new_tokens: int = 64
    """Length of each answer in tokens."""
    batches: tuple[int, ...] = (1, 4, 16)
    """Batch sizes to measure: the number of answers generated at once."""
    repeats: int = 3
    """Repetitions; the median is reported."""
    threads: int | None = None
    """CPU threads; by default PyTorch's own choice."""
    kv_cache_dtype: CacheDtype = "auto"
    """Number format of the key-value cache; auto: the same as the weights."""
    batch_invariant: bool = False
    """Compute the same bits at every batch size; slower."""
    json: Path | None = None
    """Also write the results to this file, one JSON line for each batch size."""
    long_context: tyro.conf.OmitArgPrefixes[LongContextOptions] = AS_STORED


HEADINGS = {
    "prefill_tokens_per_s": "prefill tok/s",
    "decode_tokens_per_s": "decode tok/s",  # sum over all answers of the batch
    "first_token_ms": "first token ms",
    "step_ms": "step ms",
}


def bench(argv: list[str]) -> int:
    """Load the model, warm up, measure and print."""
    options = parse(BenchOptions, "qianwen bench", argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    length = options.prompt_tokens + options.new_tokens
    config = EngineConfig(
        max_num_seqs=max(options.batches),
        num_blocks=max(options.batches) * (-(-length // 32) + 1),
        prefix_caching=False,
        max_model_len=length,
        extension=options.long_context.extension,
        kv_cache_dtype=options.kv_cache_dtype,
        batch_invariant=options.batch_invariant,
    )
    begin = time.perf_counter()
    llm = LLM.load(options.model, bits=options.bits, windows=options.long_context.window_sizes, config=config)
    load_s, loaded_bytes = time.perf_counter() - begin, memory_in_use_bytes()
    measure(llm.engine, 1, min(options.prompt_tokens, 32), min(options.new_tokens, 4))
    speeds = {}
    for batch in options.batches:
        runs = [measure(llm.engine, batch, options.prompt_tokens, options.new_tokens) for _ in range(options.repeats)]
        speeds[batch] = {name: statistics.median(run[name] for run in runs) for name in HEADINGS}
    console.print(_table(speeds, options))
    facts = {"name": llm.name, "cpu": cpu_name(), "threads": torch.get_num_threads()}
    path = _path(llm.engine)
    memory = {"load": load_s, "loaded": loaded_bytes / 1e9, "peak": peak_memory_bytes() / 1e9}
    console.print(tr("{name} on {cpu}, {threads} thread{threads:plural}", **facts))
    console.print(tr("computed by {path}", path=path), markup=False)
    console.print(tr("loaded in {load:.1f} s; the model takes {loaded:.2f} GB, peak memory {peak:.2f} GB", **memory))
    if options.json:
        common = facts | memory | {"bits": options.bits, "path": path}
        write_jsonl(options.json, [common | {"batch": batch} | speed for batch, speed in speeds.items()])
    return 0


def measure(engine: LLMEngine, batch: int, prompt_tokens: int, new_tokens: int) -> dict[str, float]:
    """Run `batch` requests from their prompts to their last tokens."""
    params = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True)
    for _ in range(batch):
        tokens = [random.randrange(engine.runner.vocab_size) for _ in range(prompt_tokens)]
        engine.add_request(Request(tuple(tokens), params, extension=engine.config.extension))
    begin = time.perf_counter()
    waiting, first = batch, 0.0
    while waiting:
        waiting -= sum(output.usage.completion_tokens == 1 for output in engine.step())
        first = first or (time.perf_counter() - begin if waiting < batch else 0.0)
    read_s = time.perf_counter() - begin
    num_steps = num_tokens = 0
    while engine.has_work:
        num_tokens += sum(len(output.token_ids) for output in engine.step())
        num_steps += 1
    write_s = time.perf_counter() - begin - read_s
    return {
        "prefill_tokens_per_s": batch * prompt_tokens / read_s,
        "decode_tokens_per_s": num_tokens / write_s,
        "first_token_ms": 1e3 * first,
        "step_ms": 1e3 * write_s / max(num_steps, 1),
    }


def _path(engine: LLMEngine) -> str:
    """Which kernels compute the model. Ours compute packed linears, and attention when the weights are fp32."""
    on_cpu = engine.runner.device.type == "cpu"
    packed = [module for module in engine.runner.model.modules() if isinstance(module, PackedLinear)]
    are_floats = not engine.runner.cache.kernel and all(linear.format == "bf16" and not on_cpu for linear in packed)
    if are_floats and (operators.available() or not on_cpu):
        return tr("PyTorch (the weights are not packed)")
    return description(engine.runner.device)


def _table(speeds: dict[int, dict[str, float]], options: BenchOptions) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("answers", *HEADINGS.values()):
        table.add_column(tr(heading), justify="right")
    for batch, speed in speeds.items():
        table.add_row(str(batch), *(f"{speed[name]:,.1f}" for name in HEADINGS))
    lengths = {"prompt": options.prompt_tokens, "new": options.new_tokens}
    table.caption = tr("prompts of {prompt} tokens, answers of {new} tokens", **lengths)
    return table
