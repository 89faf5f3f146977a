"""Generation speed beside transformers, on the same weights in one process.

    python benchmarks/inference_vs_transformers.py --model DIR_OR_GGUF [--bits 16,4,8] [--quick]

One stream, sixteen rows at once (128 tokens of prompt and 64 new ones a row, the end token ignored), and reading a
prompt of 512 tokens. transformers runs in bf16 through its own `generate`; we run packed in the given bits, 16 being
bf16: the same weights on both sides.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pairs import Report, alternate, arguments

from qianwen.checkpoints.hf_config import config_to_hf
from qianwen.checkpoints.load import load_model
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams

PROMPT, NEW, LONG = 128, 64, 512


def prompts(rows: int, length: int, vocab_size: int) -> list[list[int]]:
    """Different random tokens in every row and every call, so that no cache of prefixes helps."""
    return torch.randint(1000, min(vocab_size, 100_000), (rows, length)).tolist()


def ours(llm: LLM, rows: int, length: int, new: int) -> Callable[[], float]:
    """Tokens/s of our engine: new ones, or those of the prompt when one is all that is asked."""
    params = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True)

    def measure() -> float:
        ids = prompts(rows, length, llm.tokenizer.vocab_size)
        began = time.perf_counter()
        llm.generate(ids, params)
        return rows * (length if new == 1 else new) / (time.perf_counter() - began)

    return measure


def theirs(model: Any, rows: int, length: int, new: int) -> Callable[[], float]:
    """The same of transformers' `generate`."""

    def measure() -> float:
        ids = torch.tensor(prompts(rows, length, model.config.vocab_size))
        began = time.perf_counter()
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False,
                pad_token_id=0,
            )  # fmt: skip
        return rows * (length if new == 1 else new) / (time.perf_counter() - began)

    return measure


def peer(model: str) -> torch.nn.Module:
    """transformers' own network with the same weights (the names are the same), in bf16."""
    from transformers import AutoConfig, AutoModelForCausalLM

    loaded = load_model(model, dtype=torch.bfloat16)
    fields = config_to_hf(loaded.config)
    config = AutoConfig.for_model(**fields)
    theirs_model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    theirs_model.load_state_dict(loaded.model.state_dict())
    return theirs_model.eval()


def main() -> None:
    options = arguments(__doc__, model="", bits="16,4,8")
    if not options.model:
        raise SystemExit("--model names a folder or a GGUF file")
    pairs = 2 if options.quick else options.pairs
    report = Report(f"{Path(options.model).stem} beside transformers (bf16)", "tokens/s")
    theirs_model, ratios = peer(options.model), {}
    for bits in options.bits.split(","):
        name = "bf16" if bits == "16" else f"int{bits}"
        loaded = load_model(options.model, bits=int(bits), device="cpu")  # type: ignore[arg-type]
        llm = LLM(loaded.model, loaded.tokenizer, EngineConfig(max_model_len=2048, prefix_caching=False))
        for what, shape in {"decode": (1, PROMPT, NEW), "batch16": (16, PROMPT, NEW), "prefill": (1, LONG, 1)}.items():
            if options.quick and what == "batch16":
                continue
            ours(llm, *shape)()
            measured = alternate(ours(llm, *shape), theirs(theirs_model, *shape), pairs)
            report.add(f"{name} {what}", measured)
            ratios[f"{what}_{name}"] = measured.ratio
        del llm, loaded
        gc.collect()
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
