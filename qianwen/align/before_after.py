"""What fine-tuning changed, to read: the same questions answered by the model before the first step and after the last.

The questions are taken from all parts of the data, so the answers show what was learned, not how well it generalises.
Both answers are greedy. They are written beside the run:

    before_after.json   [{"question": …, "expected": …, "before": …, "after": …}, …]; `after` is missing until the end
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from qianwen.align.records import Dialogue
from qianwen.chat.render import render
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.serving import serving
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import RequestError
from qianwen.runtime.files import atomic_file
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

FILE = "before_after.json"
NUM_QUESTIONS = 4
MAX_ANSWER = 160  # tokens

NAMES = ("question", "expected", "before", "after")
MAX_SHOWN = 200  # characters of a cell in a terminal

Row = dict[str, str]


def answer_before(model: Qwen, tokenizer: Tokenizer, dialogues: Sequence[Dialogue], folder: Path) -> None:
    """Answer the questions with the untrained model. A run that is continued has its answers already."""
    if (folder / FILE).exists():
        return
    firsts = _first_exchanges(dialogues, tokenizer, model.config.max_position_embeddings)
    answers = _answers(model, tokenizer, firsts)
    rows = [
        {"question": first.messages[-2].text, "expected": first.messages[-1].text, "before": answer}
        for first, answer in zip(firsts, answers, strict=True)
    ]
    _write(folder, rows)


def answer_after(model: Qwen, tokenizer: Tokenizer, dialogues: Sequence[Dialogue], folder: Path) -> list[Row]:
    """Answer them with the trained model, and return the complete table."""
    if not (rows := read_rows(folder)):
        return []
    firsts = _first_exchanges(dialogues, tokenizer, model.config.max_position_embeddings)
    answers = _answers(model, tokenizer, firsts)
    rows = [{**row, "after": answer} for row, answer in zip(rows, answers, strict=False)]
    _write(folder, rows)
    return rows


def read_rows(folder: Path) -> list[Row]:
    """The table of a run; empty if the run has none, or one that cannot be read."""
    try:
        rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return [{name: str(row[name]) for name in NAMES if name in row} for row in rows if "before" in row]
    except (OSError, ValueError, TypeError):
        return []


def comparison(rows: Sequence[Row]) -> Table:
    """The table for a terminal; answers are cut to a few lines."""
    table = Table(title=tr("before and after"), title_justify="left", header_style="dim", show_lines=True)
    for heading in (tr("question"), tr("in the data"), tr("before training"), tr("after training")):
        table.add_column(heading)
    for row in rows:
        table.add_row(*(_short(row[name]) for name in NAMES))
    return table


def _short(text: str) -> Text:
    return Text(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")


def _write(folder: Path, rows: list[Row]) -> None:
    with atomic_file(folder / FILE, "w") as file:
        json.dump(rows, file, ensure_ascii=False, indent=1)


def _first_exchanges(dialogues: Sequence[Dialogue], tokenizer: Tokenizer, context: int) -> list[Dialogue]:
    """Dialogues from all parts of the data, each up to its first learned answer, that fit the context with it."""
    fitting = []
    for dialogue in dialogues[:: max(1, len(dialogues) // (4 * NUM_QUESTIONS))]:
        answers = (index for index, message in enumerate(dialogue.messages) if message.role == "assistant")
        end = next((index for index in answers if index not in dialogue.excluded), 0)
        first = Dialogue(dialogue.messages[: end + 1], dialogue.functions)
        if end and first.messages[-2].role == "user" and first.messages[-1].text and _fits(first, tokenizer, context):
            fitting.append(first)
    return fitting[:: max(1, len(fitting) // NUM_QUESTIONS)][:NUM_QUESTIONS]


def _fits(first: Dialogue, tokenizer: Tokenizer, context: int) -> bool:
    try:
        return len(_prompt(first, tokenizer)) + MAX_ANSWER <= context
    except RequestError:  # no form in this model's format; reported when the data is rendered
        return False


def _prompt(first: Dialogue, tokenizer: Tokenizer) -> list[int]:
    return render(first.messages[:-1], tokenizer, functions=first.functions, add_generation_prompt=True).ids


def _answers(model: Qwen, tokenizer: Tokenizer, firsts: Sequence[Dialogue]) -> list[str]:
    if not firsts:
        return []
    prompts = [_prompt(first, tokenizer) for first in firsts]
    size = EngineConfig.block_size  # a cache for these answers only, as training leaves little memory
    config = EngineConfig(
        max_num_seqs=NUM_QUESTIONS, num_blocks=sum((len(p) + MAX_ANSWER) // size + 2 for p in prompts)
    )
    params = SamplingParams(temperature=0.0, max_tokens=MAX_ANSWER)
    with serving(model):
        answers = LLM(model, tokenizer, config).generate(prompts, params)
    return [answer.text for answer in answers]
