"""Does an adapter teach a model to choose tools? Chinese questions, ReAct calls, held-out selection before and after.

    python benchmarks/tool_calls.py --model DIR_OR_GGUF --data DIALOGUES [--methods lora,qlora] [--steps N]
        [--llama-cpp 20]

`--data` are dialogues with `tools` and calls, in any form that `qianwen sft` reads. Each call becomes a question with
three tools on offer, its own and those of other dialogues, laid out in Qwen v1's ReAct form; so does each question that
begins a dialogue and was answered without one, and then the right tool is none, and of the answer its beginning is
learned. A quarter of the dialogues, by a hash of their text, is held out; none of their questions is learned. The
answer counts if its first action is the tool that was called, or if it has none where none was. Both methods see the
same sequences from the same seed, all of them once or those of so many `--steps`, and answer over the base they were
learned over: bf16, or NF4. Runs go where QIANWEN_RUNS says.

Training is a process of its own, so that its peak of resident memory is its own. At last each adapter is merged and
exported to GGUF, and llama.cpp (`node-llama-cpp`) is asked so many held-out questions beside us, greedy, 48 tokens.
"""

from __future__ import annotations

import gc
import hashlib
import random
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from llama_peer import LlamaCpp
from pairs import Report, arguments

from qianwen.align.records import Dialogue
from qianwen.align.sft import SFTConfig, sft
from qianwen.chat import Message, render
from qianwen.chat.messages import FunctionSpec, to_openai
from qianwen.chat.react import STOP, ReActReader, react_turns
from qianwen.chat.react_prompts import react_prompt
from qianwen.checkpoints.export import export_model
from qianwen.checkpoints.load import LoadedModel, load_model
from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.linears.lora import LoraConfig
from qianwen.model.serving import serving
from qianwen.runtime.device import peak_memory_bytes
from qianwen.runtime.files import write_jsonl
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.loop import LoopConfig

OFFERED, HELD_OUT = 3, 4  # tools of a question; one in so many dialogues is held out
LEN = 1024  # tokens of a training sequence, which holds two or three questions
LR = 5e-4
ANSWER = 96  # tokens in which a tool is named
FIRST = 4  # characters of an answer without a tool: more of them would hide what is to be learned, that there is none
COMPARED = 48  # tokens of an answer beside llama.cpp's


@dataclass(frozen=True)
class Question:
    """A user's turn with tools in it, what was answered, and the tool that called; empty where none was."""

    prompt: str
    answer: str
    tool: str


def questions(dialogues: Sequence[Dialogue]) -> tuple[list[Question], list[Question]]:
    """Those to learn from and those held out."""
    tools = {function.name: function for dialogue in dialogues for function in dialogue.functions}
    parts: tuple[list[Question], list[Question]] = ([], [])
    for dialogue in dialogues:
        key = hashlib.sha256("".join(message.text for message in dialogue.messages).encode()).digest()
        first = next(message for message in dialogue.messages if message.role == "user")
        for asked, said in pairwise(dialogue.messages):
            is_answer = asked.role == "user" and said.role == "assistant" and _is_chinese(asked.text)
            if is_answer and (said.tool_calls or asked is first):
                offered = _offered(dialogue.functions, tools, random.Random(key))
                begins = said.text.strip().partition("\n")[0][:FIRST]
                said = Message("assistant", begins, tool_calls=said.tool_calls[:1])
                text = "".join(span.text for span in react_turns([asked, said], offered)[-1].spans)
                tool = said.tool_calls[0].name if said.tool_calls else ""
                parts[key[0] % HELD_OUT == 0].append(Question(react_prompt(offered, asked.text), text, tool))
    return parts


def _is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def _offered(own: Sequence[FunctionSpec], tools: dict[str, FunctionSpec], chance: random.Random) -> list[FunctionSpec]:
    names = {function.name for function in own}
    others = [tools[name] for name in sorted(tools) if name not in names]
    offered = [*own, *chance.sample(others, max(OFFERED - len(own), 0))]
    chance.shuffle(offered)
    return offered


def prompts(asked: Sequence[Question], tokenizer: Tokenizer) -> list[list[int]]:
    return [render([Message("user", each.prompt)], tokenizer, add_generation_prompt=True).ids for each in asked]


def chosen(answer: str) -> str:
    """The first action of an answer; empty where it has none."""
    reader = ReActReader()
    pieces = [*reader.feed(answer), *reader.finish()]
    return "".join(piece.text for piece in pieces if piece.field == "action").strip()


def selected(loaded: LoadedModel, asked: Sequence[Question]) -> dict[str, float]:
    """The share of questions whose first action is the right tool: of all, of those with one, of those without."""
    params = SamplingParams(temperature=0, max_tokens=ANSWER, stop=STOP)
    with serving(loaded.model):
        answers = LLM(loaded.model, loaded.tokenizer).generate(prompts(asked, loaded.tokenizer), params)
    right = [chosen(one.outputs[0].text) == each.tool for each, one in zip(asked, answers, strict=True)]
    kinds = {
        "all": right,
        "a tool": [is_right for is_right, each in zip(right, asked, strict=True) if each.tool],
        "none": [is_right for is_right, each in zip(right, asked, strict=True) if not each.tool],
    }
    return {kind: sum(found) / len(found) for kind, found in kinds.items() if found}


def answering(adapter: Path, method: str) -> LoadedModel:
    """An adapter over the base it was learned over, ready to answer."""
    return load_model(adapter, bits="nf4" if method == "qlora" else 16)


def write_questions(learned: Sequence[Question], path: Path) -> Path:
    """As dialogues to learn from."""
    rows = [[Message("user", each.prompt), Message("assistant", each.answer)] for each in learned]
    write_jsonl(path, [{"messages": [to_openai(message) for message in row]} for row in rows])
    return path


def tuned(name: str, model: str, method: Any, data: Path, steps: int) -> tuple[Path, float]:
    """An adapter learned from the questions over `model`, and the GB its process took at most."""
    loop = LoopConfig(steps=steps, sequences_per_step=1, micro_batch_size=1, lr=LR, warmup_steps=3)
    config = SFTConfig(
        name=name,
        model=model,
        data=str(data),
        method=method,
        lora=LoraConfig(rank=16, alpha=32.0, dropout=0.05),
        seq_len=LEN,
        epochs=1,
        loop=loop,
        checkpoint_activations=method == "qlora",
        log_steps=5,
        save_steps=20,
    )
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_train, config).result()


def _train(config: SFTConfig) -> tuple[Path, float]:
    base = load_model(config.model, bits="nf4" if config.method == "qlora" else None)
    return sft(config, base.model, base.tokenizer), peak_memory_bytes() / 1e9


def beside_llama_cpp(adapter: Path, asked: Sequence[Question], folder: Path) -> dict[str, Any]:
    """Merge and export an adapter, and answer from the file, we and llama.cpp."""
    exported = export_model(str(adapter), folder, "gguf")
    file = next(folder.glob("*.gguf"))
    gc.collect()
    loaded = load_model(file, bits="stored")
    ids = prompts(asked, loaded.tokenizer)
    params = SamplingParams(temperature=0, max_tokens=COMPARED)
    ours = [answer.outputs[0].token_ids for answer in LLM(loaded.model, loaded.tokenizer).generate(ids, params)]
    ends = set(loaded.generation["eos_token_id"])
    ours = [[token for token in answer if token not in ends] for answer in ours]
    loaded.model.to("meta")  # its weights go before those of the peer come
    peer = LlamaCpp(str(file))
    theirs = [peer.ask("answer", prompt=prompt, new=COMPARED)["ids"] for prompt in ids]
    peer.end()
    texts = [[loaded.tokenizer.decode(answer) for answer in answers] for answers in (ours, theirs)]
    pairs = list(zip(*texts, strict=True))
    return {
        "export": str(exported.parity),
        "answers": len(pairs),
        "same text": sum(a == b for a, b in pairs),
        "same tool": sum(chosen(a) == chosen(b) for a, b in pairs),
        "right tool": [
            sum(chosen(text) == each.tool for text, each in zip(side, asked, strict=True)) for side in texts
        ],
    }


def main() -> None:
    options = arguments(__doc__, model="", data="", methods="lora,qlora", steps=0, asked=100, llama_cpp=20)
    if not options.model or not options.data:
        raise SystemExit("--model names a folder or a GGUF file, --data dialogues with calls")
    from qianwen.align.dialogues import read_dialogues

    options.steps = 4 if options.quick else options.steps
    learned, held_out = questions(list(read_dialogues(options.data)))
    held_out = held_out[: 8 if options.quick else options.asked]
    report = Report(f"held-out tool selection, {Path(options.model).stem}", "share")
    report.note("questions", f"{len(learned)} for training, {len(held_out)} held out")
    shares = {"base": selected(load_model(options.model, bits=16), held_out)}
    report.note("base", shares["base"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = write_questions(learned, folder / "calls.jsonl")
        for method in options.methods.split(","):
            name = f"tool-calls-{Path(options.model).stem}-{method}"
            adapter, peak = tuned(name, options.model, method, data, options.steps)
            shares[method] = selected(answering(adapter, method), held_out)
            report.note(method, shares[method])
            report.note(f"{method}, peak GB", peak)
            if options.llama_cpp:
                beside = beside_llama_cpp(adapter, held_out[: options.llama_cpp], folder / method)
                report.note(f"{method}, beside llama.cpp", beside)
            report.finish({f"{name}_selection": share["all"] for name, share in shares.items()}, options.json)


if __name__ == "__main__":
    main()
