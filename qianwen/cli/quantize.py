"""`qianwen quantize MODEL --to DIR`: fewer bits a weight, in the format of the published Int4 and Int8 models."""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qianwen.runtime.language import tr
from qianwen.runtime.log import console, progress

if TYPE_CHECKING:
    from qianwen.align.dialogues import Dialogue
    from qianwen.tokenizer.tokenizer import Tokenizer

ANSWER_LEN = 20_000  # characters of an answer made here


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Round MODEL's weights to 4 or 8 bits so that its answers change least, and say by how much they do.

    gptq looks at what the layers are given; --data says on which dialogues, and they should be like those the model is
    for. Without it the texts are Python's own documentation and code, in English.
    """

    model: Annotated[str, tyro.conf.Positional]
    """A folder, GGUF file, run or hub name."""
    to: Path
    """The folder to write; it appears whole, replacing one of that name."""
    bits: Literal[4, 8] = 4
    method: Literal["gptq", "rtn"] = "gptq"
    """rtn rounds to the nearest: no data, seconds instead of minutes, and more is lost."""
    group_size: int = 128
    """Inputs that share a scale; -1: all of an output."""
    asymmetric: bool = False
    """A zero of its own for every group: a little better, and not for every engine's fast path."""
    act_order: bool = True
    """Round the inputs that matter most first."""
    search: bool = True
    """Cut off a group's largest weights where less is lost that way."""
    passes: int = 2
    """Over all codes and scales, once every input is rounded: less is lost, and it takes up to twice as long."""
    damp_percent: float = 0.1
    """Of the mean of the Hessian's diagonal, added to it. The released models: 0.01, and none of the three above."""
    data: Path | None = None
    """Dialogues to calibrate on, in any form `qianwen sft` reads."""
    samples: int = 128
    """Dialogues taken from it."""
    seq_len: int = 512
    """Tokens of a dialogue that are read."""
    layout: Literal["qwen2", "qwen-v1"] = "qwen2"
    license: str = ""
    """For the model card: the licence these weights are under."""


def quantize(argv: list[str]) -> int:
    """Quantise, then print what it cost and the command that runs the copy."""
    options = tyro.cli(QuantizeOptions, prog="qianwen quantize", args=argv)
    from qianwen.quantize.gptq import GptqConfig
    from qianwen.quantize.load import open_model
    from qianwen.quantize.model_card import Origin
    from qianwen.quantize.reduce import reduce_model

    config = GptqConfig(
        bits=options.bits,
        group_size=options.group_size,
        sym=not options.asymmetric,
        damp_percent=options.damp_percent,
        act_order=options.act_order,
        search=options.search,
        passes=options.passes,
    )
    opened = open_model(options.model)
    size = {"samples": options.samples, "seq_len": options.seq_len}
    texts = [] if options.method == "rtn" else calibration_texts(options.data, opened.tokenizer, **size)

    def shown(layers: Iterable[int], count: int) -> Iterable[int]:
        return progress(layers, count, tr("quantising {name} to {bits} bits", name=opened.name, bits=options.bits))

    done = reduce_model(
        opened,
        options.to,
        config,
        texts,
        seq_len=options.seq_len,
        layout="qwen" if options.layout == "qwen-v1" else "qwen2",
        origin=Origin(options.model, options.license),
        progress=shown,
    )
    console.print(tr("{folder}: {parity}", folder=done.folder, parity=done.parity))
    console.print(tr("Run it: {command}", command=f"qianwen chat {options.to}"))
    return 0


def calibration_texts(data: Path | None, tokenizer: "Tokenizer", *, samples: int, seq_len: int) -> list[list[int]]:
    """Dialogues to calibrate on, laid out in ChatML as they would be to train on.

    Every other is read from somewhere within. The first token of a text is like no other to a network: its activations
    are many times as large, and all tokens attend to it. Calibrated on `<|im_start|>` alone, a text that begins with
    another word pays for it.
    """
    from qianwen.align.dialogues import read_dialogues
    from qianwen.chat.chatml import render

    if data is None:
        console.print(tr("no --data: calibrating on Python's own documentation and code, in English"))
    chosen = itertools.islice(read_dialogues(data) if data else documentation(), samples)
    texts = [render(each.messages, tokenizer, functions=each.functions).ids for each in chosen]
    chance = random.Random(0)
    texts[1::2] = [ids[chance.randrange(max(len(ids) - seq_len, len(ids) // 2, 1)) :] for ids in texts[1::2]]
    count = sum(min(len(text), seq_len) for text in texts)
    console.print(tr("calibrating on {texts} dialogues, {tokens:,} tokens", texts=len(texts), tokens=count))
    return texts


def documentation() -> Iterator["Dialogue"]:
    """What the running Python says of itself, as questions and answers: a page of its manual, a module, in turn."""
    from pydoc_data.topics import topics

    from qianwen.align.dialogues import Dialogue
    from qianwen.chat.messages import Message
    from qianwen.data.readers import Rejected
    from qianwen.data.sources import standard_library

    modules = (document for document in standard_library() if not isinstance(document, Rejected))
    for (topic, page), module in zip(topics.items(), modules, strict=False):
        pairs = (f"Explain {topic} in Python.", page), (f"Write {module['source']}.", module["text"])
        for question, answer in pairs:
            yield Dialogue([Message("user", question), Message("assistant", answer[:ANSWER_LEN])])
