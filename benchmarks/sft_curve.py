"""How much does more data help? Adapters of one model learned from 100, 300, 1,000 and 3,000 dialogues.

    python benchmarks/sft_curve.py [--model DIR_OR_GGUF] [--data FILE] [--rows 100,300,1000,3000]
        [--json results/sft_curve.json] [--figure sft_curve.png]

The data are the rows of GPTeacher's Toolformer set (MIT): an instruction names one tool with its description, and the
answer calls it inside its text. Rows are shuffled by a hash of their text; the first 300 are held out, and smaller
training sets are the beginnings of larger ones. Each adapter (rank 16) sees its rows three times at the same rate.

Measured on the held-out rows: the loss per labelled token, and of 100 greedy answers the share that a rule accepts: the
answer ends, and calls the offered tool, once or more, with at least half of the words of the reference call. The model
before training is the row for 0.

One command, which may be killed: each training is a run that continues (`QIANWEN_RUNS`), and finished sizes are read
from the JSON file. `--quick` has 20 rows for training and 8 answers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from pairs import Report, arguments, console

from qianwen.align.dialogues import read_dialogues
from qianwen.align.held_out_dialogues import HeldOutDialogues
from qianwen.align.records import Dialogue
from qianwen.align.sft import SFTConfig, sft
from qianwen.align.training_data import pad_id
from qianwen.chat.messages import to_openai
from qianwen.chat.render import ChatFormat, render
from qianwen.checkpoints.load import LoadedModel, load_model
from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.linears.lora import LoraConfig
from qianwen.model.serving import serving
from qianwen.runtime.files import atomic_file, runs_dir, write_jsonl
from qianwen.train.loop import LoopConfig

WEIGHTS = Path("~/.cache/qianwen-weights/smollm2-135m-instruct-q4_1.gguf").expanduser()
HELD_OUT, ANSWERS = 300, 100  # held-out rows, and how many of them are answered
SEQ_LEN, EPOCHS, PER_STEP = 512, 3.0, 2
LR = 5e-4
ACCESS = re.compile(r"toolformer access:\s*(\w+)")


def main() -> None:
    options = arguments(__doc__, model=str(WEIGHTS), data="", rows="100,300,1000,3000", figure="", name="sft-curve")
    if not options.data:
        raise SystemExit("--data names the rows, such as gpteacher_toolformer.mit.jsonl.zst")
    sizes = [20] if options.quick else [int(size) for size in options.rows.split(",")]
    num_held_out, num_answers = (20, 8) if options.quick else (HELD_OUT, ANSWERS)
    folder = runs_dir() / options.name
    train, test = split(options.data, num_held_out)
    held_out = write(test, folder / "test.jsonl")
    before = json.loads(options.json.read_text())["values"] if options.json and options.json.exists() else {}
    report = Report("fine-tuning by the amount of data", "")
    for size in (0, *sizes):
        row = before.get(str(size))
        if row is None:
            path = write(train[:size], folder / f"{size}.jsonl") if size else None
            loaded = trained(options, size, path) if path else load_model(options.model)
            row = measured(loaded, held_out, test[:num_answers])
        report.note(str(size), row)
        console.print(f"{size:,} rows: {row}", highlight=False)
        if options.json:  # after each size, so that a kill costs one
            report.finish({}, options.json)
    if options.figure:
        draw({int(size): row for size, row in report.values.items()}, Path(options.figure))


def split(file: str, num_held_out: int) -> tuple[list[Dialogue], list[Dialogue]]:
    """Training rows and held-out rows, each in an order that depends on their text only."""
    usable = {
        hashlib.sha256("".join(message.text for message in each.messages).encode()).digest(): each
        for each in read_dialogues(file, quiet=True)
        if reference_call(each)
    }
    rows = [each for _, each in sorted(usable.items())]
    return rows[num_held_out:], rows[:num_held_out]


def write(rows: Sequence[Dialogue], path: Path) -> Path:
    """Write the rows as a file of dialogues, if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, [{"messages": [to_openai(message) for message in each.messages]} for each in rows])
    return path


def trained(options: Any, size: int, data: Path) -> LoadedModel:
    """The adapter of `size` rows, trained or continued."""
    loop = LoopConfig(steps=0, sequences_per_step=PER_STEP, micro_batch_size=1, lr=LR, warmup_steps=5)
    config = SFTConfig(
        name=f"{options.name}/{size}", model=options.model, data=str(data), method="lora",
        lora=LoraConfig(rank=16, alpha=32.0, dropout=0.05), seq_len=SEQ_LEN, epochs=EPOCHS, loop=loop, save_steps=50,
    )  # fmt: skip
    base = load_model(config.model)
    config = replace(config, seq_len=min(SEQ_LEN, base.config.max_position_embeddings))
    return load_model(sft(config, base.model, base.tokenizer))


def measured(loaded: LoadedModel, held_out: Path, asked: Sequence[Dialogue]) -> dict[str, float]:
    """Held-out loss, and the share of answers that the rule accepts."""
    model, tokenizer = loaded.model.eval(), loaded.tokenizer
    rows = HeldOutDialogues([str(held_out)], tokenizer, "clean", SEQ_LEN, pad_id(tokenizer))
    prompts = [render(each.messages[:-1], tokenizer, add_generation_prompt=True).ids for each in asked]
    loss = rows.losses(model)["held_out_test"]
    with serving(model):
        params = SamplingParams(temperature=0.0, max_tokens=96)
        llm = LLM(model, tokenizer, end_ids=ChatFormat(tokenizer).end_ids)
        outputs = [answer.outputs[0] for answer in llm.generate(prompts, params)]
    right = [
        output.finish_reason == "stop" and accepts(each, output.text)
        for each, output in zip(asked, outputs, strict=True)
    ]
    return {"held_out_loss": round(loss, 4), "accepted": round(sum(right) / len(right), 4)}


def calls(name: str, text: str) -> list[set[str]]:
    """The words in the brackets of each call of a tool."""
    return [set(re.findall(r"\w+", found.lower())) for found in re.findall(rf"\b{name}\(([^()]+)\)", text)]


def reference_call(dialogue: Dialogue) -> set[str]:
    """The words of the call in the reference answer; empty if it does not call the offered tool."""
    offered = ACCESS.search(dialogue.messages[0].text)
    found = calls(offered[1], dialogue.messages[-1].text) if offered else []
    return found[0] if found else set()


def accepts(dialogue: Dialogue, text: str) -> bool:
    """Whether an answer calls the offered tool with at least half of the words of the reference call."""
    offered = ACCESS.search(dialogue.messages[0].text)
    wanted = reference_call(dialogue)
    return bool(offered) and any(2 * len(words & wanted) >= len(wanted) for words in calls(offered[1], text))


def draw(rows: dict[int, dict[str, float]], path: Path) -> None:
    """Loss and accuracy by the number of rows."""
    sizes = [size for size in sorted(rows) if size]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, name, label in zip(
        axes, ("held_out_loss", "accepted"), ("held-out loss, nats per token", "answers accepted"), strict=True
    ):
        axis.plot(sizes, [rows[size][name] for size in sizes], marker="o")
        axis.axhline(rows[0][name], linestyle=":", color="grey", label="before training")
        axis.set(xscale="log", xlabel="dialogues", ylabel=label)
        axis.legend()
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
