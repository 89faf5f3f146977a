"""What fewer bits cost on real weights: perplexity by language, agreement, memory and speed, in one table.

    python benchmarks/quantization.py --model DIR_OR_GGUF --texts english=A.txt,chinese=B.txt,code=C.py
        [--variants fp32,bf16,…] [--calibration FILE,…] [--keep FOLDER] [--json FILE]

    fp32, bf16          the weights in floats; how often bf16's first choice is fp32's is the floor of every agreement
    int8, int4, nf4     packed for the kernels; four bits in groups of 32 with a search; NF4 as adapters train over it
    rtn8, rtn, gptq     GPTQ's layout, symmetric, groups of 128: rounded to nearest in eight and four bits, and four by
                        GPTQ; read in bf16, so that weights alone are rounded, answered and weighed packed
    tuned, tuned2       the codes of gptq, their scales tuned for `--steps` steps towards what the source says, and for
                        twice as many, which only `--variants` asks for
    kv_int8, kv_plain   bf16 weights over a cache of eight bits, keys bare, or as they come

Perplexity is over windows of 1,024 tokens, `--tokens` of each text. Top-1 agreement is with fp32, and so is the KL
divergence in nats, of every 16th token: how far a row's answers are from it, whether they got worse or better. Memory
is that of the weights and, in the rows of the cache, of a token in it. `--keep` holds what fp32 said and the quantised
folders, for further calls with other variants; rows that `--json` has of the same day stay and are not measured again.
`texts.py` makes texts to measure and others to calibrate on.
"""

from __future__ import annotations

import functools
import gc
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pairs import Report, arguments, console
from rich.table import Table
from torch import Tensor

from qianwen.checkpoints.load import LoadedModel, load_model, open_model
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.caches.int8 import Int8PagedCache
from qianwen.model.caches.paged import PagedCache
from qianwen.model.transformer import Qwen, key_biases
from qianwen.quantize.gptq import GptqConfig
from qianwen.quantize.gptq_model import quantize_model
from qianwen.tokenizer.tokenizer import Tokenizer

VARIANTS = ("fp32", "bf16", "rtn8", "int8", "int4", "nf4", "rtn", "gptq", "tuned", "tuned2", "kv_int8", "kv_plain")
GPTQ_LAYOUT = ("rtn8", "rtn", "gptq", "tuned", "tuned2")
WINDOW, HEAD_ROWS, WHOLE = 1024, 256, 16  # tokens at once; rows of scores at once; one in so many is kept whole
Forward = Callable[[Qwen, Tensor], Tensor]  # ids [1, T] → hidden [T, H]


class Said(NamedTuple):
    """Of every token: its log-probability, and which token came first; of some all log-probabilities, fp16 [n, V]."""

    logprobs: Tensor
    first: Tensor
    whole: Tensor


def plain(model: Qwen, ids: Tensor) -> Tensor:
    return model(ids)[0]


def through_cache(model: Qwen, ids: Tensor, *, bare_keys: bool) -> Tensor:
    """The same through a cache of eight bits, from which every key is read back."""
    count = -(-ids.size(1) // 32)
    cache = Int8PagedCache(model.config, count, 32, biases=key_biases(model), bare_keys=bare_keys)
    length = np.array([ids.size(1)])
    positions = cache.begin([[list(range(count))]] * cache.num_kinds, length, length)
    return model(ids, torch.from_numpy(positions)[None], cache)[0]


@torch.inference_mode()
def read(model: Qwen, ids: list[int], forward: Forward) -> Said:
    """What the model says of a text, window by window."""
    logprobs, first, whole = [], [], []
    for start in range(0, len(ids) - 1, WINDOW):
        window = torch.tensor([ids[start : start + WINDOW + 1]])
        hidden, labels = forward(model, window[:, :-1]), window[0, 1:]
        for rows, wanted in zip(hidden.split(HEAD_ROWS), labels.split(HEAD_ROWS), strict=True):
            scores = model.logits(rows).float()
            logprobs.append(scores.gather(1, wanted[:, None])[:, 0] - scores.logsumexp(-1))
            first.append(scores.argmax(-1))
            whole.append(scores[::WHOLE].log_softmax(-1).half())
    return Said(torch.cat(logprobs), torch.cat(first), torch.cat(whole))


def divergence(said: Said, reference: Said) -> float:
    """Mean KL divergence of what was said from the reference, nats."""
    pairs = zip(reference.whole.split(HEAD_ROWS), said.whole.split(HEAD_ROWS), strict=True)
    total = sum((p.double().exp() * (p.double() - q.double())).sum().item() for p, q in pairs)
    return total / len(said.whole)


def decode_speed(loaded: LoadedModel, config: EngineConfig) -> float:
    """Tokens/s of one answer of 32 tokens."""
    llm = LLM(loaded.model, loaded.tokenizer, config)
    prompt = torch.randint(100, min(20_000, loaded.tokenizer.vocab_size), (64,)).tolist()
    llm.generate([prompt], SamplingParams(temperature=0, max_tokens=2, ignore_eos=True))
    began = time.perf_counter()
    llm.generate([prompt], SamplingParams(temperature=0, max_tokens=32, ignore_eos=True))
    return 32 / (time.perf_counter() - began)


def weight_bytes(model: Qwen) -> int:
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def load(variant: str, options: Any, keep: Path) -> tuple[LoadedModel, Forward, EngineConfig]:
    """The model of a row, how it reads, and how it answers."""
    floats = functools.partial(load_model, options.model)
    engine = EngineConfig(max_model_len=2048, max_num_seqs=1)
    if variant in GPTQ_LAYOUT:  # read in floats, so that nothing but the weights is rounded
        calibration = "" if variant.startswith("rtn") else options.calibration
        config = GptqConfig(bits=8 if variant == "rtn8" else 4)
        tuned = variant.startswith("tuned")
        folder = quantised(options.model, keep / ("gptq" if tuned else variant), config, calibration)
        if tuned:
            steps = options.steps * (2 if variant == "tuned2" else 1)
            folder = with_tuned_scales(options, folder, keep / variant, steps)
        return load_model(folder, dtype=torch.bfloat16), plain, engine
    if variant == "fp32":
        return floats(dtype=torch.float32), plain, engine
    if variant in ("int8", "int4", "nf4"):
        bits: Any = variant if variant == "nf4" else int(variant[3:])
        return floats(bits=bits, dtype=torch.bfloat16), plain, engine
    forward = functools.partial(through_cache, bare_keys=variant == "kv_int8") if variant.startswith("kv") else plain
    cache: Any = "int8" if variant == "kv_int8" else "auto"
    return floats(dtype=torch.bfloat16), forward, EngineConfig(max_model_len=2048, max_num_seqs=1, kv_cache_dtype=cache)


def quantised(model: str, folder: Path, config: GptqConfig, calibration: str = "") -> Path:
    """MODEL in GPTQ's layout, made once: by GPTQ on texts of these files, or rounded to nearest without any."""
    from qianwen.cli.calibration_data import calibration_texts

    if not folder.exists():
        opened = open_model(model)
        files = [Path(name) for name in calibration.split(",") if name]
        texts = calibration_texts(files, opened.tokenizer, samples=128, seq_len=512) if files else []
        began = time.perf_counter()
        quantize_model(opened, folder, config, texts, seq_len=512)
        console.print(f"{folder.name}: quantised in {time.perf_counter() - began:.0f} s")
    return folder


def with_tuned_scales(options: Any, codes: Path, folder: Path, steps: int) -> Path:
    """The codes of a folder with scales that were tuned, made once, on texts drawn anew."""
    from qianwen.cli.quantize import quantize

    if not folder.exists():
        data = ["--data", *options.calibration.split(",")]
        began = time.perf_counter()
        quantize([options.model, "--to", str(folder), "--codes", str(codes), "--tune", str(steps), *data])
        console.print(f"{folder.name}: tuned in {time.perf_counter() - began:.0f} s")
    return folder


def texts_of(named: str, tokens: int, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """`NAME=FILE,…` → so many tokens of each file, and one to begin with."""
    pairs = (part.partition("=") for part in named.split(","))
    return {name: tokenizer.encode(Path(path).read_text("utf-8"))[: tokens + 1] for name, _, path in pairs}


def measure(variant: str, options: Any, texts: dict[str, list[int]], keep: Path) -> dict[str, Any]:
    """One row, and beside it what fp32 said, from this call or an earlier one."""
    loaded, forward, engine = load(variant, options, keep)
    row: dict[str, Any] = {"GB": weight_bytes(loaded.model) / 1e9}
    agreed, apart, seconds = [], [], 0.0
    for name, ids in texts.items():
        began = time.perf_counter()
        said = read(loaded.model, ids, forward)
        seconds += time.perf_counter() - began
        reference = keep / f"fp32-{name}.pt"
        if variant == "fp32":
            torch.save(tuple(said), reference)
        if reference.exists():
            exact = Said(*torch.load(reference))
            agreed.append((said.first == exact.first).double().mean().item())
            apart.append(divergence(said, exact))
        row[name] = math.exp(-said.logprobs.double().mean())
    row["read tok/s"] = sum(map(len, texts.values())) / seconds
    row["top-1"] = sum(agreed) / len(agreed) if agreed else math.nan
    row["KL"] = sum(apart) / len(apart) if apart else math.nan
    dtype = loaded.model.model.norm.weight.dtype
    plain_cache = PagedCache(loaded.config, 1, 32, dtype=dtype)
    cache = Int8PagedCache(loaded.config, 1, 32) if variant.startswith("kv") else plain_cache
    row["KB a token"] = cache.num_bytes / 64 / 1e3
    if variant in GPTQ_LAYOUT:
        loaded = load_model(keep / variant, bits="stored")
        row["GB"] = weight_bytes(loaded.model) / 1e9
    row["decode tok/s"] = decode_speed(loaded, engine) if variant not in ("kv_plain", "nf4") else math.nan
    return row


def main() -> None:
    every = ",".join(name for name in VARIANTS if name != "tuned2")
    options = arguments(__doc__, model="", texts="", variants=every, calibration="", keep="", tokens=8192, steps=64)
    if not options.model or not options.texts:
        raise SystemExit("--model names a folder or a GGUF file, --texts at least one NAME=FILE")
    if {"gptq", "tuned", "tuned2"} & set(options.variants.split(",")) and not options.calibration:
        raise SystemExit("gptq and tuned need --calibration: dialogues or documents that are none of the texts")
    options.tokens = 2048 if options.quick else options.tokens
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        keep = Path(options.keep or temporary)
        keep.mkdir(parents=True, exist_ok=True)
        opened = open_model(options.model)
        texts = texts_of(options.texts, options.tokens, opened.tokenizer)
        title = f"quantisation, {opened.name}: perplexity of {options.tokens} tokens a text, beside bf16"
        if options.json and options.json.exists():
            before = json.loads(options.json.read_text())
            if before["machine"]["date"] != time.strftime("%Y-%m-%d") or before["title"] != title:
                raise SystemExit(f"{options.json} is of another day or model: remove it, or name another file")
            rows = before["values"]["rows"]
        for variant in (name for name in options.variants.split(",") if name not in rows):
            rows[variant] = measure(variant, options, texts, keep)
            console.print(variant, rows[variant], highlight=False)
            gc.collect()
    rows = {name: rows[name] for name in VARIANTS if name in rows}
    base = rows.get("bf16", next(iter(rows.values())))
    for row in rows.values():
        row |= {f"{name}, %": 100 * (row[name] / base[name] - 1) for name in texts}
    report = Report(title, "")
    report.note("rows", rows)
    ratios = {}
    for variant in ("gptq", "tuned", "tuned2"):
        if {"bf16", "rtn", variant} <= rows.keys():
            ratios |= closed(rows, variant, list(texts))
    show(rows)
    report.finish(ratios, options.json)


def closed(rows: dict[str, dict[str, Any]], variant: str, texts: list[str]) -> dict[str, float]:
    """Which share of what rounding to nearest loses a row wins back: of the log-perplexities and of the divergence."""
    base, rounded, solved = (rows[name] for name in ("bf16", "rtn", variant))
    lost = {text: [math.log(row[text] / base[text]) for row in (solved, rounded)] for text in texts}
    lost["KL"] = [row["KL"] - base["KL"] for row in (solved, rounded)]
    return {f"{variant}_closes_{text}": 1 - ours / theirs for text, (ours, theirs) in lost.items()}


def show(rows: dict[str, dict[str, Any]]) -> None:
    """The rows as a table on the terminal."""
    columns = list(next(iter(rows.values())))
    table = Table("", *columns, box=None, header_style="dim")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[column]:.4g}" for column in columns))
    console.print(table)


if __name__ == "__main__":
    main()
