"""Long prompts, and decoding after them, beside llama.cpp, ik_llama.cpp and transformers on the same tokens.

    python benchmarks/long_context.py [--model FILE.gguf] [--lengths 4096,16384] [--pairs 5] [--json FILE]
    python benchmarks/long_context.py --quick [--recorded FILE]

    prefill    tokens/s of reading a prompt of 4,096 or 16,384 tokens of code with an empty cache
    decode     tokens/s of 64 tokens after that prompt, which is in the cache already

The 0.5B, its GGUF file as stored: `--model`, else the file in $QW_WEIGHTS or ~/.cache/qianwen-weights, else random
weights of that shape, written as Q4_K_M. transformers computes the same weights in bf16. Everybody uses two threads.

In a round each side is measured once, the next round in the reverse order; a ratio is the median over the rounds of
ours / peer. llama.cpp and ik_llama.cpp have flash attention on or off, whichever was faster in a trial of the same
work. `ratio NAME` is over the better of the two, `ratio NAME_transformers` over transformers. After the shortest
prompt everybody goes on greedily, and the texts are printed: so all have read the same tokens.

`--quick`: one round at 4,096 tokens without transformers, with the settings of flash attention that `--recorded` holds,
the results of a full run.
"""

from __future__ import annotations

import json
import os
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from inference_vs_llama_cpp import decode_speed, prefill_speed
from inference_vs_transformers import peer as transformers_model
from llama_peer import HERE, FasterOf, LlamaPython
from pairs import Pairs, Report, arguments

from qianwen.checkpoints.gguf.network import GgufModel, write_model
from qianwen.checkpoints.load import load_model
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.request import Context
from qianwen.kernels.cpu.build import family
from qianwen.model.config import PRESETS
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

LENGTHS, NEW, GREEDY = (4096, 16384), 64, 12
OPERATIONS = ("prefill", "decode")
RECORDED = HERE / "results" / "long_context.json"
Speed = Callable[[str, list[int]], float]  # (operation, prompt) → tokens/s


class Ours:
    """Our engine. Each prefill has a salt of its own, so that no cached prompt helps it."""

    def __init__(self, model: Path, context: int) -> None:
        network = load_model(model, bits="stored", device="cpu").model
        config = EngineConfig(max_model_len=context, max_num_seqs=1)
        self.llm = LLM(network, Tokenizer(GgufModel(model).vocabulary), config)
        self.number = 0

    @property
    def context(self) -> Context:
        return Context(salt=str(self.number))

    def speed(self, op: str, prompt: list[int]) -> float:
        if op == "prefill":
            self.number += 1
            return prefill_speed(self.llm, prompt, self.context)
        return decode_speed(self.llm, prompt, NEW, context=self.context)

    def answer(self, prompt: list[int], new: int) -> list[int]:
        ids: list[int] = []
        decode_speed(self.llm, prompt, new - 1, ids, self.context)
        return ids


class Llama:
    """llama.cpp or ik_llama.cpp, with the faster setting of flash attention for each operation and length."""

    def __init__(self, name: str, model: Path, context: int, recorded: dict[str, str]) -> None:
        settings = sorted({setting == "on" for setting in recorded.values()} or {False, True})
        self.peers = FasterOf(*(LlamaPython(name, str(model), flash, context) for flash in settings), tries=1)
        if recorded:
            by_setting = {peer.flash: peer for peer in self.peers.peers}
            self.peers.choice = {(op, LENGTHS[0]): by_setting[recorded[op] == "on"] for op in OPERATIONS}

    def speed(self, op: str, prompt: list[int]) -> float:
        return self.peers.speed(op, **_fields(op, prompt))

    def setting(self, op: str, prompt: list[int]) -> str:
        return "on" if self.peers.chosen(op, **_fields(op, prompt)).flash else "off"

    def answer(self, prompt: list[int], new: int) -> list[int]:
        return self.peers.chosen("decode", **_fields("decode", prompt)).ask("answer", prompt=prompt, new=new)["ids"]


def _fields(op: str, prompt: list[int]) -> dict[str, Any]:
    return {"prompt": prompt} if op == "prefill" else {"prompt": prompt, "new": NEW}


class Transformers:
    """transformers in bf16 with its growing cache, whose end is cut off before each decoding."""

    def __init__(self, model: Path) -> None:
        self.model: Any = transformers_model(str(model))
        self.cache: Any = None

    @torch.inference_mode()
    def read(self, tokens: list[int]) -> torch.Tensor:
        """Logits after the last token."""
        return self.model(torch.tensor([tokens]), cache=self.cache, logits_to_keep=1).logits[0, -1]

    def cut(self, length: int) -> None:
        """Forget all but the first tokens."""
        self.cache.crop(length - self.cache.get_seq_length())

    def speed(self, op: str, prompt: list[int]) -> float:
        from transformers import DynamicCache

        if op == "prefill":
            self.cache, began = DynamicCache(config=self.model.config), time.perf_counter()
            self.read(prompt)
            return len(prompt) / (time.perf_counter() - began)
        self.cut(len(prompt))
        began = time.perf_counter()
        for index in range(NEW):
            self.read([prompt[index % len(prompt)]])
        return NEW / (time.perf_counter() - began)

    def answer(self, prompt: list[int], new: int) -> list[int]:
        self.cut(len(prompt) - 1)
        ids = prompt[-1:]
        while len(ids) <= new:
            ids.append(int(self.read(ids[-1:]).argmax()))
        return ids[1:]


def code_tokens(tokenizer: Tokenizer, count: int) -> list[int]:
    """The first tokens of modules of Python's library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    names = ("argparse.py", "textwrap.py", "heapq.py", "shlex.py", "tarfile.py", "inspect.py")
    ids = tokenizer.encode("\n\n".join((library / name).read_text("utf-8") for name in names))
    return [ids[index % len(ids)] for index in range(count)]


@contextmanager
def weights(model: str) -> Iterator[Path]:
    """The GGUF file to measure."""
    folder = Path(os.environ.get("QW_WEIGHTS", "~/.cache/qianwen-weights")).expanduser()
    files = [Path(model)] if model else sorted(folder.glob("*0.5b*.gguf"))
    if files:
        yield files[0]
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield random_weights(Path(temporary) / "random-0.5b-q4_k_m.gguf")


def random_weights(path: Path) -> Path:
    """A file of the 0.5B's shape; its vocabulary is bytes and pairs of them."""
    config = PRESETS["qwen2.5-0.5b"]
    model = Qwen(config).init_weights(seed=0)
    pairs = [bytes([first, second]) for first in range(97, 123) for second in range(97, 123)]
    tokens = [bytes([value]) for value in range(256)] + pairs
    vocabulary = Vocabulary({token: index for index, token in enumerate(tokens)}, {"<|endoftext|>": len(tokens)})
    extra = {"general.name": path.stem, "tokenizer.ggml.eos_token_id": len(tokens)}
    return write_model(model, vocabulary, path, type="Q4_K_M", extra=extra)


def rounds(ours: Speed, peers: dict[str, Speed], op: str, prompt: list[int], count: int) -> dict[str, Pairs]:
    """Everybody in turn, once a round; the next round is in the reverse order."""
    pairs = {name: Pairs() for name in peers}
    sides = [("ours", ours), *peers.items()]
    for number in range(count):
        speeds = {name: measure(op, prompt) for name, measure in (sides if number % 2 == 0 else sides[::-1])}
        for name, each in pairs.items():
            each.ours.append(speeds["ours"])
            each.peer.append(speeds[name])
    return pairs


def recorded_settings(path: Path, name: str) -> dict[str, str]:
    """For each operation at the first length, whether flash attention was faster in a full run."""
    if not path.exists():
        raise SystemExit(f"{path} does not exist; a run without --quick and with --json {path} writes it")
    values = json.loads(path.read_text())["values"]
    return {op: values[f"flash attention, {name} {op} {label(LENGTHS[0])}"] for op in OPERATIONS}


def label(length: int) -> str:
    return f"{length // 1024}k"


def note_answers(report: Report, tokenizer: Tokenizer, sides: dict[str, Any], prompt: list[int]) -> None:
    """What each side continues `prompt` with, and how many tokens are ours before the first difference."""
    answers = {name: side.answer(prompt, GREEDY) for name, side in sides.items()}
    for name, ids in answers.items():
        same = next((i for i, (a, b) in enumerate(zip(ids, answers["ours"], strict=True)) if a != b), GREEDY)
        text = tokenizer.decode(ids)
        report.note(f"greedy after {len(prompt):,} tokens, {name}", f"{text!r}, {same} of {GREEDY} tokens as ours")


def measure(report: Report, sides: dict[str, Any], length: int, prompt: list[int], count: int) -> dict[str, float]:
    """Both operations at one length; the last prefill leaves the context that decoding needs."""
    ratios = {}
    peers = {name: side.speed for name, side in sides.items() if name != "ours"}
    llamas = [name for name in peers if name != "transformers"]
    for op in OPERATIONS:
        for name in llamas:
            report.note(f"flash attention, {name} {op} {label(length)}", sides[name].setting(op, prompt))
        measured = rounds(sides["ours"].speed, peers, op, prompt, count)
        for name, pairs in measured.items():
            report.add(f"{op} {label(length)}, {name}", pairs)
        ratios[f"{op}_{label(length)}"] = min(measured[name].ratio for name in llamas)
        if "transformers" in measured:
            ratios[f"{op}_{label(length)}_transformers"] = measured["transformers"].ratio
    return ratios


def main() -> None:
    options = arguments(__doc__, model="", lengths=",".join(map(str, LENGTHS)), recorded=str(RECORDED))
    lengths = LENGTHS[:1] if options.quick else [int(length) for length in options.lengths.split(",")]
    context = max(lengths) + 1024
    chosen = family()
    kernels = chosen.name if chosen else "none"
    names = {
        "llama.cpp": f"llama-cpp-{'avx2' if kernels.startswith('avx2') else 'avx512'}",
        "ik_llama.cpp": "ik-llama-cpp",
    }
    recorded = {name: recorded_settings(Path(options.recorded), name) if options.quick else {} for name in names}
    with weights(options.model) as model:
        sides: dict[str, Any] = {name: Llama(peer, model, context, recorded[name]) for name, peer in names.items()}
        sides = {"ours": Ours(model, context)} | sides
        if not options.quick:
            sides["transformers"] = Transformers(model)
        report = Report(f"{model.name} with long contexts, kernels {kernels}", "tokens/s")
        tokenizer = sides["ours"].llm.tokenizer
        tokens = code_tokens(tokenizer, max(lengths))
        sides["ours"].speed("prefill", tokens[:512])  # the first call is slower
        ratios: dict[str, float] = {}
        for length in lengths:
            ratios |= measure(report, sides, length, tokens[:length], 1 if options.quick else options.pairs)
            if length == lengths[0]:
                note_answers(report, tokenizer, sides, tokens[:length])
        report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
