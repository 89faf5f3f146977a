"""Does an adapter teach a model to choose tools? Chinese questions, ReAct calls, held-out selection before and after.

    python benchmarks/tool_calls.py --model DIR_OR_GGUF --data DIALOGUES [--methods lora,qlora] [--steps 60]

`--data` are dialogues with `tools` and calls, in any form that `qianwen sft` reads. Each call becomes a question with
five tools on offer, its own and four of other dialogues, laid out in Qwen v1's ReAct form. A fifth of the dialogues, by
a hash of their text, is held out; none of their questions is learned. The answer counts if its first action is the tool
that was called. Both methods see the same sequences from the same seed. Runs go where QIANWEN_RUNS says.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairs import Report, arguments

from qianwen.align.records import Dialogue
from qianwen.align.sft import SFTConfig, sft
from qianwen.chat import Message, render
from qianwen.chat.messages import FunctionSpec, to_openai
from qianwen.chat.react import STOP, ReActReader, react_prompt, react_turns
from qianwen.engine.llm import LLM
from qianwen.engine.params import SamplingParams
from qianwen.model.lora import LoraConfig
from qianwen.quantize.load import LoadedModel, load_model
from qianwen.runtime.device import peak_memory_bytes
from qianwen.runtime.files import write_jsonl
from qianwen.train.loop import LoopConfig

OFFERED, HELD_OUT = 5, 5  # tools of a question; one in so many dialogues is held out
LEN = 1024  # tokens of a training sequence


@dataclass(frozen=True)
class Question:
    """A user's turn with tools in it, and the call that answers it."""

    prompt: str
    answer: str
    tool: str


def questions(dialogues: Sequence[Dialogue]) -> tuple[list[Question], list[Question]]:
    """Those to learn from and those held out."""
    tools = {function.name: function for dialogue in dialogues for function in dialogue.functions}
    parts: tuple[list[Question], list[Question]] = ([], [])
    for dialogue in dialogues:
        key = hashlib.sha256("".join(message.content for message in dialogue.messages).encode()).digest()
        for index, message in enumerate(dialogue.messages):
            asked = dialogue.messages[index - 1]
            if index and message.tool_calls and asked.role == "user" and _is_chinese(asked.content):
                offered = _offered(dialogue.functions, tools, random.Random(key))
                answer = react_turns([asked, Message("assistant", "", tool_calls=message.tool_calls[:1])], ())
                text = "".join(span.text for span in answer[-1].spans)
                tool = message.tool_calls[0].name
                parts[key[0] % HELD_OUT == 0].append(Question(react_prompt(offered, asked.content), text, tool))
    return parts


def _is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def _offered(own: Sequence[FunctionSpec], tools: dict[str, FunctionSpec], chance: random.Random) -> list[FunctionSpec]:
    names = {function.name for function in own}
    others = [tools[name] for name in sorted(tools) if name not in names]
    offered = [*own, *chance.sample(others, max(OFFERED - len(own), 0))]
    chance.shuffle(offered)
    return offered


def selected(loaded: LoadedModel, asked: Sequence[Question]) -> float:
    """The share of questions whose first action is the right tool."""
    prompts = [
        render([Message("user", question.prompt)], loaded.tokenizer, add_generation_prompt=True).ids
        for question in asked
    ]
    params = SamplingParams(temperature=0, max_tokens=96, stop=STOP)
    right = 0
    for question, answer in zip(asked, LLM(loaded.model, loaded.tokenizer).generate(prompts, params), strict=True):
        reader = ReActReader()
        pieces = [*reader.feed(answer.outputs[0].text), *reader.finish()]
        right += "".join(piece.text for piece in pieces if piece.field == "action").strip() == question.tool
    return right / len(asked)


def tuned(method: Any, options: Any, data: Path) -> Path:
    """An adapter learned from the questions."""
    loop = LoopConfig(steps=options.steps, sequences_per_step=2, micro_batch_size=1, lr=3e-4, warmup_steps=5)
    config = SFTConfig(
        name=f"tool-calls-{method}",
        model=options.model,
        data=str(data),
        method=method,
        lora=LoraConfig(rank=16, alpha=32.0, dropout=0.05),
        seq_len=LEN,
        loop=loop,
        checkpoint_activations=True,
        save_steps=20,
    )
    base = load_model(options.model, bits="nf4" if method == "qlora" else None)
    return sft(config, base.model, base.tokenizer)


def main() -> None:
    options = arguments(__doc__, model="", data="", methods="lora,qlora", steps=60, asked=100)
    if not options.model or not options.data:
        raise SystemExit("--model names a folder or a GGUF file, --data dialogues with calls")
    from qianwen.align.dialogues import read_dialogues

    options.steps = 4 if options.quick else options.steps
    learned, held_out = questions(list(read_dialogues(options.data)))
    held_out = held_out[: 8 if options.quick else options.asked]
    report = Report("held-out tool selection", "share")
    report.note("questions", f"{len(learned)} learned, {len(held_out)} held out")
    shares = {"base": selected(load_model(options.model, bits="stored"), held_out)}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "calls.jsonl"
        rows = [[Message("user", each.prompt), Message("assistant", each.answer)] for each in learned]
        write_jsonl(data, [{"messages": [to_openai(message) for message in row]} for row in rows])
        for method in options.methods.split(","):
            shares[method] = selected(load_model(tuned(method, options, data), bits="stored"), held_out)
            report.note(f"{method}, peak GB so far", peak_memory_bytes() / 1e9)
    for name, share in shares.items():
        report.note(name, share)
    report.finish({f"{name}_selection": share for name, share in shares.items()}, options.json)


if __name__ == "__main__":
    main()
