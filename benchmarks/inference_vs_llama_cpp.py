"""One stream beside llama.cpp and ik_llama.cpp on the same GGUF file: prompts, answers, speculation, and quality.

    python benchmarks/inference_vs_llama_cpp.py --model FILE.gguf [--grids stored,4] [--texts FOLDER] [--quick]
                                                [--measure speed,speculation,quality]
    QIANWEN_KERNELS=avx2 python benchmarks/inference_vs_llama_cpp.py …        with the kernels of another family

Each peer runs in turns with us, on the same two threads and token ids: llama.cpp built for AVX2 or AVX-512, as the
kernels that we use, and ik_llama.cpp, an AVX2 build, with flash attention off or on, whichever is faster. Prompts are
real text. Speculation runs on code edits and answers out of a given text, greedy; how far its tokens are those of plain
decoding is printed.

Beside the speeds stand bits per weight and perplexity: of each `*.txt` in `--texts` (en, zh, code), 8,192 tokens in
windows of 512, against the file's own weights in float32. `prompt`: as prompts are computed, `answer`: as answers are.
llama.cpp's perplexity is of the first 1,024 of these tokens, for it hands out probabilities one token at a time; ours
on the same ones stands beside it. Grids: `stored` keeps the file's blocks, a number quantises its weights anew.
"""

from __future__ import annotations

import dataclasses
import math
import sysconfig
import time
from pathlib import Path

import torch
from llama_peer import FasterOf, LlamaCpp, LlamaPython
from pairs import Report, alternate, arguments
from torch import nn

from qianwen.chat.messages import Message
from qianwen.chat.render import render
from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.load import load_model
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.request import DEFAULT_CONTEXT, Context, Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.scoring import loglikelihoods
from qianwen.kernels.cpu.build import family
from qianwen.model.linears.packed import PackedLinear
from qianwen.model.transformer import Qwen
from qianwen.runtime.log import console
from qianwen.tokenizer.tokenizer import Tokenizer

PROMPT, NEW, LONG, WINDOW = 128, 128, 512, 512
SCORED, SCORED_BY_PEER = 8192, 1024  # tokens of a text
GUESSES = 6  # tokens guessed a step


def decode_speed(
    llm: LLM, prompt: list[int], new: int, kept: list[int] | None = None, context: Context = DEFAULT_CONTEXT
) -> float:
    """Tokens/s from the first token of an answer to its last; `kept` takes the answer."""
    engine = llm.engine
    params = SamplingParams(temperature=0, max_tokens=new + 1, ignore_eos=True)
    engine.add_request(Request(tuple(prompt), params, context))
    began, count, ids = 0.0, 0, []
    while engine.has_work:
        for output in engine.step():
            ids += output.token_ids
            if not began:
                began = time.perf_counter()
            else:
                count += len(output.token_ids)
    if kept is not None:
        kept[:] = ids
    return count / (time.perf_counter() - began)


def prefill_speed(llm: LLM, prompt: list[int], context: Context = DEFAULT_CONTEXT) -> float:
    """Tokens/s of reading a prompt, its first new token included."""
    params = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    llm.engine.add_request(Request(tuple(prompt), params, context))
    began = time.perf_counter()
    while llm.engine.has_work:
        llm.engine.step()
    return len(prompt) / (time.perf_counter() - began)


def code_text() -> str:
    library = Path(sysconfig.get_paths()["stdlib"])
    return "\n\n".join((library / name).read_text("utf-8") for name in ("textwrap.py", "heapq.py", "shlex.py"))


def copying_prompts(tokenizer: Tokenizer) -> list[list[int]]:
    """Work in which most of the answer stands in the question: two edits of code, one grounded answer."""
    library = Path(sysconfig.get_paths()["stdlib"])
    bisect = (library / "bisect.py").read_text("utf-8")
    colorsys = (library / "colorsys.py").read_text("utf-8")
    docs = (library / "heapq.py").read_text("utf-8")[:1800]
    asked = [
        f"Rename the variable `mid` to `middle` and print the code again:\n```python\n{bisect[:1500]}\n```",
        f"Add type hints to the functions and print all of the code again:\n```python\n{colorsys[900:2300]}\n```",
        f"{docs}\n\nQuote, word for word, the sentences above that say what a heap is.",
    ]
    return [render([Message("user", text)], tokenizer, add_generation_prompt=True).ids for text in asked]


def perplexity(llm: LLM, ids: list[int]) -> float:
    """exp of the mean loss of every token but the first of each window, through the engine like any request."""
    windows = [ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW)]
    said = loglikelihoods(llm, [(window[:1], window[1:]) for window in windows])
    return math.exp(-sum(each.total for each in said) / sum(len(each.logprobs) for each in said))


def bits_per_weight(model: Qwen) -> float:
    """Of all linears, packed ones and, without the kernels, floats."""
    linears = [module for module in model.modules() if isinstance(module, PackedLinear | nn.Linear)]
    num_bytes = sum(x.packed_bytes if isinstance(x, PackedLinear) else x.weight.nbytes for x in linears)
    return 8 * num_bytes / sum(x.in_features * x.out_features for x in linears)


def measure_speed(
    report: Report, grid: str, llm: LLM, peers: dict[str, LlamaPython | FasterOf], num_pairs: int, quick: bool
) -> dict[str, float]:
    """Decode and prefill, in turns with each peer; its name ends the names of the ratios."""
    text = llm.tokenizer.encode(code_text())
    short, long = text[:PROMPT], text[2000 : 2000 + LONG]
    new = 32 if quick else NEW
    decode_speed(llm, short, 8)
    prefill_speed(llm, long)
    ratios = {}
    for name, peer in peers.items():
        ending = "" if name == "llama.cpp" else "_vs_ik"
        pairs = alternate(
            lambda: decode_speed(llm, short, new),
            lambda peer=peer: peer.speed("decode", prompt=short, new=new),
            num_pairs,
        )
        report.add(f"{grid} decode, {name}", pairs)
        ratios[f"decode{ending}"] = pairs.ratio
        pairs = alternate(
            lambda: prefill_speed(llm, long), lambda peer=peer: peer.speed("prefill", prompt=long), num_pairs
        )
        report.add(f"{grid} prefill, {name}", pairs)
        ratios[f"prefill{ending}"] = pairs.ratio
    return ratios


def measure_speculation(report: Report, grid: str, llm: LLM, plain: LLM, peer: LlamaCpp, num_pairs: int) -> float:
    """Geometric mean over the prompts of the ratio to llama.cpp's plain decoding; answers must be the plain ones."""
    logs = []
    for number, prompt in enumerate(copying_prompts(llm.tokenizer)):
        expected: list[int] = []
        found: list[int] = []
        decode_speed(plain, prompt, NEW, expected)
        pairs = alternate(
            lambda prompt=prompt, found=found: decode_speed(llm, prompt, NEW, found),
            lambda prompt=prompt: peer.speed("decode", prompt=prompt, new=NEW),
            num_pairs,
        )
        same = next((i for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b), len(found))
        report.add(f"{grid} speculative, prompt {number + 1}", pairs)
        report.note(
            f"{grid} speculative, prompt {number + 1}: tokens equal to plain decoding", f"{same} of {len(found)}"
        )
        logs.append(math.log(pairs.ratio))
    return math.exp(sum(logs) / len(logs))


def measure_quality(
    report: Report, models: dict[str, Qwen], floats: LLM, config: EngineConfig, peer: LlamaCpp, texts: Path
) -> None:
    """Perplexity of the grids as prompts are read, and with every row computed as answers are written."""
    tokens = {
        path.stem: floats.tokenizer.encode(path.read_text("utf-8"))[:SCORED] for path in sorted(texts.glob("*.txt"))
    }
    exact = {name: (perplexity(floats, ids), perplexity(floats, ids[:SCORED_BY_PEER])) for name, ids in tokens.items()}
    told: dict[str, dict[str, float]] = {}
    for name, ids in tokens.items():
        report.note(f"{name}: perplexity of the weights in float32, {len(ids)} tokens", round(exact[name][0], 3))
        few = ids[:SCORED_BY_PEER]
        loss = peer.ask("score", windows=[few[start : start + WINDOW] for start in range(0, len(few), WINDOW)])["loss"]
        told[name] = {"llama.cpp": math.exp(loss) / exact[name][1] - 1}
    for grid, model in models.items():
        llm = LLM(model, floats.tokenizer, config)
        read = {name: perplexity(llm, ids) / exact[name][0] - 1 for name, ids in tokens.items()}
        for name, ids in tokens.items():
            told[name][grid] = perplexity(llm, ids[:SCORED_BY_PEER]) / exact[name][1] - 1
        llm = LLM(model, floats.tokenizer, dataclasses.replace(config, batch_invariant=True))
        for name, ids in tokens.items():
            write = perplexity(llm, ids) / exact[name][0] - 1
            report.note(f"{name}: {grid} prompt, answer", f"{read[name]:+.2%}, {write:+.2%}")
    for name, each in told.items():
        report.note(f"{name}: the first {SCORED_BY_PEER} tokens", ", ".join(f"{k} {v:+.2%}" for k, v in each.items()))


PARTS = ("speed", "speculation", "quality")


def load(model: str, grid: str) -> Qwen:
    """The network in one grid of `--grids`."""
    return load_model(model, bits="stored" if grid == "stored" else int(grid), device="cpu").model  # type: ignore[arg-type]


def main() -> None:
    options = arguments(__doc__, model="", grids="stored,4", texts="", node="", measure="speed,speculation,quality")
    parts = options.measure.split(",")
    if not options.model or not set(parts) <= set(PARTS):
        raise SystemExit(f"--model names a GGUF file, --measure some of {', '.join(PARTS)}")
    num_pairs = 2 if options.quick else options.pairs
    chosen = family()
    kernels = chosen.name if chosen else "none"
    wide = "avx2" if kernels.startswith("avx2") else "avx512"
    peers = {
        "llama.cpp": LlamaPython(f"llama-cpp-{wide}", options.model),
        "ik_llama.cpp": FasterOf(*(LlamaPython("ik-llama-cpp", options.model, flash) for flash in (False, True))),
    } if "speed" in parts else {}  # fmt: skip
    peer = LlamaCpp(options.model, options.node) if {"speculation", "quality"} & set(parts) else None
    report, ratios = Report(f"{Path(options.model).name} beside llama.cpp, kernels {kernels}", "tokens/s"), {}
    report.note("kernels", kernels)
    tokenizer = Tokenizer(GgufModel(Path(options.model)).vocabulary)
    config = EngineConfig(max_model_len=2048, max_num_seqs=2, prefix_caching=False)
    guessing = dataclasses.replace(config, num_speculative_tokens=GUESSES)
    models = {
        "as stored" if grid == "stored" else f"int{grid}": load(options.model, grid)
        for grid in options.grids.split(",")
    }
    for number, (name, model) in enumerate(models.items()):
        console.print(f"measuring {name}")
        report.note(f"{name}: bits per weight of the linears", round(bits_per_weight(model), 2))
        llm, found = LLM(model, tokenizer, config), {}
        if "speed" in parts:
            found |= measure_speed(report, name, llm, peers, num_pairs, options.quick)
        if peer and "speculation" in parts and not options.quick:
            speculative = LLM(model, tokenizer, guessing)
            found["decode_speculative"] = measure_speculation(
                report, name, speculative, llm, peer, max(2, num_pairs // 2)
            )
        ratios |= {f"{key}_{name.replace(' ', '_')}" if number else key: value for key, value in found.items()}
    if peer and "quality" in parts and options.texts:
        floats = load_model(options.model, bits=None, dtype=torch.float32, device="cpu").model
        measure_quality(report, models, LLM(floats, tokenizer, config), config, peer, Path(options.texts))
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
