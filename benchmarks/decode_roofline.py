"""How near one stream comes to the memory's limit: bytes of weights read per second beside the best plain read.

    python benchmarks/decode_roofline.py --model DIR_OR_GGUF [--bits 16,8,4] [--quick]

A step of one stream reads every packed weight once, the head's too; keys and values, the embedding's one row and the
scores are not counted, which makes our share a little low. The limit is the best of ten reads of 2 GB by two threads,
from pages of 2 MB as our weights have them, measured before every pair again.
"""

from __future__ import annotations

import gc
import os
import time

import torch
from inference_vs_llama_cpp import code_text, decode_speed
from pairs import Pairs, Report, arguments

from qianwen.checkpoints.load import load_model
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.kernels.cpu.operators import huge_tensor
from qianwen.model.linears.packed import PackedLinear
from qianwen.model.transformer import Qwen

PROMPT, NEW = 128, 64
READ_BYTES, READS = 2 * 10**9, 10


def best_read(memory: torch.Tensor) -> float:
    """GB/s of the best of ten sums over all of `memory`."""
    best = 0.0
    for _ in range(READS):
        began = time.perf_counter()
        memory.sum()
        best = max(best, memory.nbytes / (time.perf_counter() - began))
    return best / 1e9


def packed_bytes(model: Qwen) -> int:
    return sum(module.packed_bytes for module in model.modules() if isinstance(module, PackedLinear))


def main() -> None:
    options = arguments(__doc__, model="", bits="16,8,4")
    if not options.model:
        raise SystemExit("--model names a folder or a GGUF file")
    torch.set_num_threads(min(2, os.cpu_count() or 2))
    memory = huge_tensor(READ_BYTES).view(torch.float32).fill_(1)
    report, ratios = Report("weights read while decoding one stream, beside the fastest read of 2 GB", "GB/s"), {}
    config = EngineConfig(max_model_len=1024, max_num_seqs=1, prefix_caching=False)
    for bits in options.bits.split(","):
        name = "bf16" if bits == "16" else f"int{bits}"
        loaded = load_model(options.model, bits=int(bits), device="cpu")  # type: ignore[arg-type]
        llm = LLM(loaded.model, loaded.tokenizer, config)
        prompt, size = llm.tokenizer.encode(code_text())[:PROMPT], packed_bytes(loaded.model) / 1e9
        decode_speed(llm, prompt, 8)
        pairs = Pairs()
        for _ in range(2 if options.quick else options.pairs):
            pairs.peer.append(best_read(memory))
            pairs.ours.append(max(decode_speed(llm, prompt, NEW) for _ in range(2)) * size)
        report.add(name, pairs)
        report.note(f"{name}: packed weights (GB)", round(size, 3))
        ratios[f"roofline_{name}"] = pairs.ratio
        del llm, loaded
        gc.collect()
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
