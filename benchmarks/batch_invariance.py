"""What the batch-invariant mode costs: the same engine and weights with and without it, in one process.

    python benchmarks/batch_invariance.py --model DIR_OR_GGUF [--bits stored] [--quick]

Ratios are speeds of the invariant mode over the fast one: one stream, eight at once, and reading a prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from pairs import Report, alternate, arguments

from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams

CASES = {"decode_1": (1, 32, 48), "decode_8": (8, 32, 48), "prefill_512": (1, 512, 1)}  # rows, prompt, new tokens


def speed(llm: LLM, rows: int, length: int, new: int) -> Callable[[], float]:
    """Tokens/s: new ones, or those of the prompt when one is all that is asked."""
    params = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True)

    def measure() -> float:
        ids = torch.randint(1000, llm.engine.runner.vocab_size, (rows, length)).tolist()
        began = time.perf_counter()
        llm.generate(ids, params)
        return rows * (length if new == 1 else new) / (time.perf_counter() - began)

    return measure


def main() -> None:
    options = arguments(__doc__, model="runs/demo", bits="stored")
    bits: Any = options.bits if options.bits == "stored" else int(options.bits)
    config = {"max_model_len": 2048, "max_num_seqs": 8}
    invariant = LLM.load(options.model, bits=bits, config=EngineConfig(**config, batch_invariant=True))
    fast = LLM.load(options.model, bits=bits, config=EngineConfig(**config))
    report = Report(f"batch-invariant mode beside the fast one, {options.model}", "tokens/s")
    ratios = {}
    for name, (rows, length, new) in CASES.items():
        ours, peer = speed(invariant, rows, length, new), speed(fast, rows, length, new)
        ours(), peer()  # both warm
        pairs = alternate(ours, peer, 2 if options.quick else options.pairs)
        report.add(name, pairs)
        ratios[f"invariant_{name}"] = pairs.ratio
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
