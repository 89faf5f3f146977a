"""What it costs to read a text again at each doubling of dynamic NTK, while one long answer is generated.

    python benchmarks/growth.py --pairs 1 [--length 16384] [--train-len 2048] [--bits 8] [--quick]

A network with random weights of the 0.5B's shape and a trained length of 2,048 tokens answers a short prompt up to
`--length` tokens. With `on_growth = exact` the text is read again after 2,048, 4,096 and 8,192 tokens. Every step is
timed. The peer is the same answer without the time of the steps that read, which is what `fixed` takes; each of these
times is reduced by one ordinary step, because the last step of a reading gives a token. `ratio growth_exact` is
1 − (time of reading again) / (time of the answer). `--pairs` is the number of answers. `--quick` has a smaller network,
a trained length of 128, and answers up to 1,024 tokens.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from pairs import Pairs, Report, arguments

from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.request import Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model import PRESETS
from qianwen.model.config import QwenConfig
from qianwen.model.linears.packed import pack_model
from qianwen.model.long_context import LongContext
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

PROMPT = 64
SMALL = QwenConfig(
    vocab_size=16384,
    hidden_size=512,
    intermediate_size=2048,
    num_hidden_layers=8,
    num_attention_heads=8,
    num_key_value_heads=2,
)


def network(train_len: int, length: int, bits: int, is_small: bool) -> Qwen:
    """Random weights; with LogN, as in the models that have dynamic NTK."""
    shape = SMALL if is_small else PRESETS["qwen2.5-0.5b"]
    lengths = {"train_len": train_len, "max_position_embeddings": length}
    config = replace(shape, use_dynamic_ntk=True, use_logn_attn=True, **lengths)
    return pack_model(Qwen(config).init_weights(0).eval(), bits)


def any_tokenizer() -> Tokenizer:
    """The engine needs one to return text."""
    ranks = {bytes([value]): value for value in range(256)}
    return Tokenizer(Vocabulary(ranks, {"<|endoftext|>": 256, "<|im_start|>": 257, "<|im_end|>": 258}, r"\S+|\s+"))


def answer_times(engine: LLMEngine, length: int) -> tuple[float, list[tuple[int, float]]]:
    """Seconds of an answer up to `length` tokens, and for each reading the tokens of its text and its seconds."""
    params = SamplingParams(temperature=0, max_tokens=length - PROMPT, ignore_eos=True)
    engine.add_request(Request(tuple(torch.randint(256, (PROMPT,)).tolist()), params, extension=LongContext()))
    total, step, num_tokens = 0.0, 0.0, PROMPT
    readings: list[tuple[int, float]] = []
    reading: list[float] = []  # seconds of the steps of the reading that goes on
    while engine.has_work:
        num_rereads, began = engine.scheduler.num_rereads, time.perf_counter()
        outputs = engine.step()
        seconds = time.perf_counter() - began
        total += seconds
        if is_reading := bool(reading):
            reading.append(seconds)
        else:
            step = seconds
        if is_reading and outputs:  # the last step of a reading gives the next token
            readings.append((num_tokens, sum(reading) - step))
            reading = []
        num_tokens += sum(len(output.token_ids) for output in outputs)
        if engine.scheduler.num_rereads > num_rereads:
            reading = [0.0]
    return total, readings


def main() -> None:
    options = arguments(__doc__, length=0, train_len=0, bits=8)
    length = options.length or (1024 if options.quick else 16384)
    train_len = options.train_len or (128 if options.quick else 2048)
    model = network(train_len, length, options.bits, options.quick)
    config = EngineConfig(max_model_len=length, max_num_seqs=1)
    engine = LLMEngine(model, any_tokenizer(), config)
    title = f"answers up to {length:,} tokens, trained length {train_len:,}, int{options.bits}"
    report, pairs = Report(title, "tokens/s"), Pairs()
    answer_times(engine, 2 * PROMPT)  # memory is mapped and kernels are loaded
    for number in range(options.pairs):
        engine.reset()
        total, readings = answer_times(engine, length)
        again = sum(seconds for _, seconds in readings)
        pairs.ours.append((length - PROMPT) / total)
        pairs.peer.append((length - PROMPT) / (total - again))
        for tokens, seconds in readings:
            report.note(f"answer {number}, {tokens:,} tokens read again", f"{seconds:.2f} s of {total:.1f} s")
    report.add("exact beside fixed", pairs)
    report.finish({"growth_exact": pairs.ratio}, options.json)


if __name__ == "__main__":
    main()
