"""Is the conversation that a model saw in training the one it gets? Ids beside transformers, and perplexity.

    python benchmarks/chat_templates.py --weights DIR --templates DIR [--dialogues FILE] [--conversations 200]

For each family, seeded conversations (system or none, empty and null content, several turns, tools, results, parallel
calls, thoughts, line ends at both ends of texts) are rendered by `chat.render` and by `apply_chat_template` of
transformers with the same vocabulary and template; the table counts those with equal ids. `--weights` has GGUF files
with a vocabulary and a template; `--templates` has the `.jinja` files of other families, as llama.cpp keeps them. A
family without a source is printed as unchecked. A conversation that one side or both refuse is counted by itself.

With `--dialogues` (any form that `qianwen sft` reads), the perplexity of the answers of 50 of them under `--model`:
with the model's own template, and as they were rendered before, in ChatML with the default system sentence of Qwen v1
and with role, line end and content encoded by themselves.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairs import Report, arguments, console
from rich.table import Table

from qianwen.align.dialogues import read_dialogues
from qianwen.chat import FunctionSpec, from_openai, render
from qianwen.chat.templates.choose import template_source
from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.load import load_model
from qianwen.runtime.errors import QianwenError
from qianwen.tokenizer.hf_vocab_files import write_hf_files
from qianwen.tokenizer.template_files import QWEN_V1, TemplateSource, template_from_gguf
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

PLAIN = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n"
    "SENTENCE<|im_end|>\\n' }}{% endif %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
FILES = {  # in --templates
    "Qwen2.5": "Qwen-Qwen2.5-7B-Instruct",
    "QwQ": "Qwen-QwQ-32B",
    "Qwen3": "Qwen-Qwen3-0.6B",
    "Qwen3-Coder": "Qwen3-Coder",
    "Llama 3.1": "meta-llama-Llama-3.1-8B-Instruct",
    "Llama 3.2": "meta-llama-Llama-3.2-3B-Instruct",
    "R1 distill, Qwen": "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    "R1 distill, Llama": "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
    "Mistral Nemo": "mistralai-Mistral-Nemo-Instruct-2407",
    "SmolLM3": "HuggingFaceTB-SmolLM3-3B",
}
TOKENS = {  # added to the vocabulary of the GGUF file, where a family has more
    "Qwen3": ("<tool_response>", "</tool_response>", "<think>", "</think>"),
    "Llama": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"),
    "R1": (
        *("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<think>", "</think>"),
        *(
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁end｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁sep｜>",
        ),
        *("<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"),
    ),
    "Mistral": ("<|s|>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
}
BEGIN = {"Llama": "<|begin_of_text|>", "R1": "<｜begin▁of▁sentence｜>", "Mistral": "<|s|>"}
COUNTS = ("conversations", "equal ids", "both refuse", "only the reference refuses", "only we refuse")
VISIBLE = frozenset(("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"))
V1_SYSTEM = "You are a helpful assistant."
WORDS = ("Paris", "杭州", "the", "weather", "42", "x = 1", "🌧", "e\u0301", "“so”", "don't", "{}", "Ärger", "<b>", "\t")


def conversation(chance: random.Random, *, has_tools: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Messages and tools in OpenAI's form."""

    def text() -> str:
        words = " ".join(chance.choices(WORDS, k=chance.randint(0, 8)))
        edge = chance.choices(("", "\n", "\n\n", " ", "\r\n"), (6, 2, 1, 1, 1), k=2)
        return edge[0] + words + edge[1]

    messages = [{"role": "system", "content": text()}] if chance.random() < 0.5 else []
    tools = [_tool(chance, number) for number in range(chance.randint(1, 3))] if has_tools else []
    for turn in range(chance.randint(1, 4)):
        messages.append({"role": "user", "content": text()})
        if tools and chance.random() < 0.6:
            messages += _calls(chance, tools, f"{turn}", text)
        thoughts = {"reasoning_content": text()} if chance.random() < 0.3 else {}
        inline = f"<think>\n{text()}\n</think>\n\n" if not thoughts and chance.random() < 0.2 else ""
        messages.append({"role": "assistant", "content": inline + text(), **thoughts})
    return messages[: len(messages) - chance.randint(0, 1)], tools


def _tool(chance: random.Random, number: int) -> dict[str, Any]:
    city = {"type": "string", "description": chance.choice(("a city", "城市", ""))}
    function: dict[str, Any] = {"name": f"tool_{number}"}
    function |= (
        {"description": chance.choice(("The weather now.", "天气", "a < b & c"))} if chance.random() < 0.7 else {}
    )
    function |= {"parameters": {"type": "object", "properties": {"city": city}, "required": ["city"]}}
    function |= {"strict": True} if chance.random() < 0.3 else {}
    return {"type": "function", "function": function}


def _calls(chance: random.Random, tools: list[dict[str, Any]], mark: str, text: Any) -> Iterator[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for number in range(chance.choice((1, 1, 2, 3))):
        value = {"city": text(), "days": chance.choice((1, 2.5, None, True, [1, "b"]))}
        arguments = json.dumps(value, ensure_ascii=False)
        function = {"name": chance.choice(tools)["function"]["name"], "arguments": arguments}
        calls.append({"id": f"call{mark}{number:04}"[:9].ljust(9, "0"), "type": "function", "function": function})
    yield {"role": "assistant", "content": chance.choice((None, "", text())), "tool_calls": calls}
    for call in calls:
        yield {"role": "tool", "content": text(), "tool_call_id": call["id"], "name": call["function"]["name"]}


def as_reference(messages: list[dict[str, Any]], *, as_text: bool) -> list[dict[str, Any]]:
    """The messages as transformers expects them: arguments as objects, except for templates that take texts only."""
    messages = json.loads(json.dumps(messages))
    for message in messages:
        for call in message.get("tool_calls", ()):
            if not as_text:
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return messages


def reference(vocabulary: Vocabulary, source: TemplateSource) -> Any:
    """The tokenizer of transformers with this vocabulary and template."""
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        write_hf_files(vocabulary, Path(folder))
        theirs = PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"), **dict(source.tokens))
    theirs.chat_template = source.text
    return theirs


def compare(ours: Tokenizer, theirs: Any, num: int) -> tuple[dict[str, int], list[Any]]:
    """How many conversations both sides render, with equal ids, and who refuses others; and those that differ."""
    text = theirs.chat_template
    has_calls, has_tools, as_text = "tool_calls" in text, "tools" in text, "['arguments'] + " in text
    counts = dict.fromkeys(COUNTS, 0)
    different = []
    seed = 0
    while counts["conversations"] < num and seed < 10 * num:
        chance, seed = random.Random(seed), seed + 1
        messages, tools = conversation(chance, has_tools=has_calls and chance.random() < 0.6)
        tools = tools if has_tools else []
        prompt = messages[-1]["role"] != "assistant"
        thinking = chance.choice((None, None, True, False))
        switch = (
            {} if thinking is None or "enable_thinking" not in theirs.chat_template else {"enable_thinking": thinking}
        )
        expected = their_ids(theirs, as_reference(messages, as_text=as_text), tools, prompt, switch)
        ids = our_ids(ours, messages, tools, prompt, thinking if switch else None)
        if ids is None or expected is None:
            refusal = "both refuse" if ids is None and expected is None else "only we refuse"
            counts["only the reference refuses" if ids is not None else refusal] += 1
            different += [(messages, "refused", theirs.decode(expected))] if expected is not None else []
            continue
        counts["conversations"] += 1
        counts["equal ids"] += ids == expected
        if ids != expected:
            different.append((messages, ours.decode(ids), theirs.decode(expected)))
    return counts, different


def their_ids(
    theirs: Any, messages: list[dict[str, Any]], tools: list[dict[str, Any]], prompt: bool, switch: dict[str, bool]
) -> list[int] | None:
    """What transformers renders; None where the template fails."""
    try:
        text = theirs.apply_chat_template(
            messages, tools=tools or None, add_generation_prompt=prompt, tokenize=False, **switch
        )
    except Exception:  # whatever a template raises
        return None
    return theirs(text, add_special_tokens=False)["input_ids"]


def our_ids(
    ours: Tokenizer, messages: list[dict[str, Any]], tools: list[dict[str, Any]], prompt: bool, thinking: bool | None
) -> list[int] | None:
    """What we render; None where we refuse, with a sentence for the user."""
    functions = [FunctionSpec.from_openai(tool) for tool in tools]
    given = [from_openai(message) for message in messages]
    try:
        return render(given, ours, functions=functions, add_generation_prompt=prompt, thinking=thinking).ids
    except QianwenError:
        return None


def families(
    weights: Path | None, templates: Path | None
) -> Iterator[tuple[str, Vocabulary | None, TemplateSource | None]]:
    """Name, vocabulary and template of each family; None for those that are not here."""
    files = sorted(weights.glob("*.gguf")) if weights else []
    models = {file.stem: GgufModel(file) for file in files}
    qwen = next(
        (model.vocabulary for model in models.values() if "<|im_start|>" in model.vocabulary.special_tokens), None
    )
    for name, model in models.items():
        yield name, model.vocabulary, template_from_gguf(model.metadata)
    yield "made by SFT here", qwen, template_source(Tokenizer(qwen)) if qwen else None
    for name, sentence in (("Qwen1.5", "You are a helpful assistant"), ("Qwen2", "You are a helpful assistant.")):
        yield name, qwen, TemplateSource(PLAIN.replace("SENTENCE", sentence))
    for name, file in FILES.items():
        path = templates / f"{file}.jinja" if templates else Path()
        source = None
        if templates and path.exists():
            begin = next((token for key, token in BEGIN.items() if name.startswith(key)), None)
            tokens = (("bos_token", begin),) if begin else ()
            source = TemplateSource(path.read_text(encoding="utf-8"), tokens=tokens)
        more = next((tokens for key, tokens in TOKENS.items() if name.startswith(key)), ())
        yield name, qwen and with_tokens(qwen, more), source


def compare_v1(ours: Tokenizer, num: int) -> int:
    """Conversations with the ids of Qwen v1's released `make_context`: each part is encoded by itself."""
    start, end, newline = ours.im_start_id, ours.im_end_id, ours.encode("\n")
    equal = 0
    for seed in range(num):
        messages, _ = conversation(random.Random(seed), has_tools=False)
        messages = [{"role": message["role"], "content": message["content"]} for message in messages]
        whole = messages if messages[0]["role"] == "system" else [{"role": "system", "content": V1_SYSTEM}, *messages]
        ids: list[int] = []
        for message in whole:
            ids += [start, *ours.encode(message["role"]), *newline, *ours.encode(message["content"]), end, *newline]
        prompt = messages[-1]["role"] != "assistant"
        ids += [start, *ours.encode("assistant"), *newline] if prompt else []
        given = [from_openai(message) for message in messages]
        equal += render(given, ours, add_generation_prompt=prompt).ids == ids
    return equal


def with_tokens(vocabulary: Vocabulary, more: tuple[str, ...]) -> Vocabulary:
    """The vocabulary and more special tokens behind it."""
    special = dict(vocabulary.special_tokens)
    for name in more:
        special.setdefault(name, max([vocabulary.size - 1, *special.values()]) + 1)
    visible = frozenset(vocabulary.visible or ()) | (VISIBLE & special.keys())
    return Vocabulary(vocabulary.ranks, special, vocabulary.pattern, visible, vocabulary.nfc)


def perplexities(model: str, dialogues: Path, num: int) -> dict[str, dict[str, float]]:
    """Perplexity of the answers of `num` dialogues, rendered by the model's template and as before."""
    import torch
    from torch.nn.functional import cross_entropy

    loaded = load_model(model, bits="stored")
    chosen = [dialogue for dialogue, _ in zip(read_dialogues(dialogues), range(num), strict=False)]
    out = {}
    for name, template in (("own template", loaded.tokenizer.template), ("as before", QWEN_V1)):
        tokenizer = Tokenizer(loaded.tokenizer.vocabulary, template=template)
        total, count = 0.0, 0
        for dialogue in chosen:
            rendered = render(dialogue.messages, tokenizer, functions=dialogue.functions)
            ids = torch.tensor([rendered.ids[:1024]])
            learned = torch.tensor(rendered.loss_mask[1:1024])
            with torch.inference_mode():
                hidden = loaded.model(ids)[0, :-1][learned]  # the head is needed for the learned tokens only
                logits = loaded.model.logits(hidden).float()
            total += float(cross_entropy(logits, ids[0, 1:][learned], reduction="sum"))
            count += int(learned.sum())
        out[name] = {"dialogues": len(chosen), "tokens": count, "perplexity": math.exp(total / count)}
        console.print(f"perplexity of the answers, {name}: {out[name]['perplexity']:.4f} ({count:,} tokens)")
    return out


def main() -> None:
    options = arguments(__doc__, weights="", templates="", dialogues="", model="", conversations=200)
    num = 20 if options.quick else options.conversations
    table = Table("family", *COUNTS, title="Ids beside apply_chat_template")
    report, first = Report("chat templates", "conversations"), []
    v1 = dict(zip(COUNTS, (num, compare_v1(Tokenizer.qwen(), num), 0, 0, 0), strict=True))
    report.note("Qwen v1", v1)
    places = (Path(place).expanduser() if place else None for place in (options.weights, options.templates))
    table.add_row("Qwen v1", *map(str, v1.values()))
    for name, vocabulary, source in families(*places):
        if vocabulary is None or source is None:
            table.add_row(name, "-", "unchecked")
            continue
        ours = Tokenizer(vocabulary, template=source)
        counts, different = compare(ours, reference(vocabulary, source), num)
        report.note(name, counts)
        first += different[:1]
        table.add_row(name, *map(str, counts.values()))
    console.print(table)
    for messages, our_text, their_text in first[:3]:
        console.print(
            json.dumps(messages, ensure_ascii=False), f"{our_text!r}", f"{their_text!r}", sep="\n", markup=False
        )
    if options.dialogues:
        num = 2 if options.quick else 50  # 10 to 20 s each on two cores, for each rendering
        report.note("perplexity", perplexities(options.model, Path(options.dialogues), num))
    report.finish({}, options.json)


if __name__ == "__main__":
    main()
