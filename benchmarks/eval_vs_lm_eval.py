"""Our evaluation beside lm-eval with transformers: the same questions, prompts and weights.

    python benchmarks/eval_vs_lm_eval.py --model DIR_OR_GGUF --data DIR [--parts speed,agreement] [--quick]

`--data` is a folder with MMLU (five worked examples, the most likely letter) and GSM8K (eight, a text), as
`qianwen eval --data-dir` reads it.

    speed        bf16 on both sides: one pair of 200 questions of MMLU, five subjects of 40, and three pairs of 40
                 questions of one subject. The whole benchmark has 246 questions a subject, so prompts share more there
    agreement    fp32 on both sides: 200 questions of MMLU, 20 of each of ten subjects, and 40 of GSM8K. Answers whose
                 two candidates differ by less than 0.01 nats on our side are listed apart: rounding decides them

`ratio speed` is the median over the pairs. `ratio agreement_…` is the share of equal answers of those not apart.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval_peer import Peer
from pairs import Pairs, Report, arguments

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import load_model
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.scoring import next_token_logprobs
from qianwen.eval.runner import run_task
from qianwen.eval.task import Answer, Choice, Complete, Score, Task, TaskOptions
from qianwen.eval.tasks import TASKS

NEAR = 0.01  # nats
SHORT = ("world_religions", "management", "conceptual_physics", "human_aging", "virology")  # shortest prompts first
AGREEMENT = (*SHORT, "philosophy", "medical_genetics", "anatomy", "astronomy", "marketing")


@dataclass
class Selection(Task):
    """Some examples of a task."""

    name: str
    task: Task
    chosen: Sequence[Choice | Complete]

    def examples(self) -> Iterable[Choice | Complete]:
        return self.chosen

    def score(self, example: Any, answer: Answer) -> Score:
        return self.task.score(example, answer)


def of_subjects(task: Task, subjects: Sequence[str], each: int, name: str) -> Selection:
    """The first questions of each of these subjects of MMLU."""
    asked: dict[str, list[Any]] = {subject: [] for subject in subjects}
    for example in task.examples():
        chosen = asked.get(example.facts["subject"], [])
        if len(chosen) < each:
            chosen.append(example)
    assert all(len(chosen) == each for chosen in asked.values()), "a subject has too few questions"
    return Selection(name, task, [example for chosen in asked.values() for example in chosen])


def first(task: Task, count: int, name: str) -> Selection:
    return Selection(name, task, [example for example, _ in zip(task.examples(), range(count), strict=False)])  # type: ignore[misc]


def tell(peer: Peer, selection: Selection) -> None:
    """Write a selection as a task of lm-eval."""
    rows: list[dict[str, Any]] = []
    for example in selection.chosen:
        if isinstance(example, Choice):
            letters = [choice.strip() for choice in example.choices]
            rows.append({"context": example.context, "choices": list(example.choices),
                         "target": letters.index(example.facts["target"])})  # fmt: skip
        else:
            rows.append({"context": example.prompt})
    last = selection.chosen[0]
    if isinstance(last, Complete):
        peer.write_texts(selection.name, rows, last.stop, last.max_tokens)
    else:
        peer.write_choices(selection.name, rows)


def ours(llm: LLM, selection: Selection) -> tuple[float, list[Answer]]:
    """Seconds and answers of our runner, from an empty cache."""
    llm.clear_cache()
    began = time.perf_counter()
    answers = [scored.answer for scored in run_task(selection, llm).scored]
    return time.perf_counter() - began, answers


def model(name: str, bits: Any, dtype: torch.dtype | None = None) -> LLM:
    loaded = load_model(name, bits=bits, dtype=dtype, device="cpu")
    ends = loaded.generation["eos_token_id"]
    return LLM(loaded.model, loaded.tokenizer, EngineConfig(max_model_len=4096), end_ids=ends, name=loaded.name)


# ---- speed --------------------------------------------------------------------------------------------------------


def speed(name: str, peer: Peer, selections: Sequence[Selection], report: Report) -> float:
    """The median ratio over the selections; who is first alternates."""
    llm = model(name, 16)
    warm = Selection("warm", selections[0].task, selections[0].chosen[:2])
    tell(peer, warm)
    ours(llm, warm)
    peer.run(warm.name, "choices", "bfloat16")
    measured = Pairs()
    for number, selection in enumerate(selections):
        tell(peer, selection)
        seconds = {}
        for side in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
            if side == "ours":
                seconds[side] = ours(llm, selection)[0]
            else:
                seconds[side] = peer.run(selection.name, "choices", "bfloat16")["seconds"]
        pair = Pairs([len(selection.chosen) / seconds["ours"]], [len(selection.chosen) / seconds["peer"]])
        report.add(f"MMLU {selection.name}, bf16", pair)
        measured.ours += pair.ours
        measured.peer += pair.peer
    return measured.ratio


# ---- agreement ----------------------------------------------------------------------------------------------------


def choices_agreement(llm: LLM, peer: Peer, selection: Selection, report: Report) -> float:
    """The share of equal letters."""
    tell(peer, selection)
    theirs = np.array(peer.run(selection.name, "choices", "float32")["answers"])
    mine = np.array([answer.choice_logprobs for answer in ours(llm, selection)[1]])
    top = np.sort(mine, axis=1)
    near = top[:, -1] - top[:, -2] < NEAR
    same = mine.argmax(axis=1) == theirs.argmax(axis=1)
    report.note("choices", f"{len(mine)}, of which {near.sum()} nearer than {NEAR} nats: {(same & near).sum()} equal")
    report.note("choices: largest difference of a log-probability", float(np.abs(mine - theirs).max()))
    report.note("choices: right", f"{_right(selection, mine)} ours, {_right(selection, theirs)} lm-eval")
    return float(same[~near].mean())


def _right(selection: Selection, logprobs: np.ndarray) -> int:
    answers = [Answer(choice_logprobs=tuple(row)) for row in logprobs]
    scores = [selection.score(example, answer) for example, answer in zip(selection.chosen, answers, strict=True)]
    return sum(bool(score.is_right) for score in scores)


def texts_agreement(llm: LLM, peer: Peer, selection: Selection, report: Report) -> float:
    """The share of equal texts."""
    tell(peer, selection)
    theirs = peer.run(selection.name, "texts", "float32")["answers"]
    mine = [answer.text for answer in ours(llm, selection)[1]]
    gaps = {}
    for number, (left, right) in enumerate(zip(mine, theirs, strict=True)):
        if left != right:
            example = selection.chosen[number]
            assert isinstance(example, Complete)
            gaps[number] = first_gap(llm, example.prompt, left, right)
    near = [number for number, gap in gaps.items() if gap < NEAR]
    report.note("texts", f"{len(mine)}, of which {len(gaps)} differ; {len(near)} of these nearer than {NEAR} nats")
    report.note("texts: gaps at the first differing token", {k: round(gap, 4) for k, gap in gaps.items()})
    return 1 - (len(gaps) - len(near)) / max(len(mine) - len(near), 1)


def first_gap(llm: LLM, prompt: str, left: str, right: str) -> float:
    """The difference of the log-probabilities of the first tokens in which two continuations differ.

    A continuation that ends where the other goes on has the end-of-document token there.
    """
    encode, end = llm.tokenizer.encode, llm.tokenizer.eod_id
    sides = [[*encode(text), end] for text in (left, right)]
    same = next((i for i, (a, b) in enumerate(zip(*sides, strict=False)) if a != b), None)
    if same is None:
        return float("inf")
    pair = [side[same] for side in sides]
    logprobs = next_token_logprobs(llm, [encode(prompt) + sides[0][:same]], pair)[0]
    return float(abs(logprobs[0] - logprobs[1]))


# ---- all ----------------------------------------------------------------------------------------------------------


def write_weights(name: str, folder: Path) -> None:
    """The weights in fp32, so that both sides round the same numbers."""
    folder.mkdir()
    loaded = load_model(name, dtype=torch.float32, device="cpu")
    generation = {"eos_token_id": loaded.generation["eos_token_id"]}
    write_folder(loaded.model, loaded.tokenizer, folder, chat=loaded.chat, dtype=torch.float32, generation=generation)


def main() -> None:
    options = arguments(__doc__, model="", data="", parts="speed,agreement")
    if not options.model or not options.data:
        raise SystemExit("--model names a folder or a GGUF file, and --data a folder with MMLU and GSM8K")
    mmlu, gsm8k = (TASKS[name](TaskOptions(data=Path(options.data))) for name in ("mmlu", "gsm8k"))
    report, ratios = Report(f"{Path(options.model).stem}: qianwen eval beside lm-eval", "items/s"), {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_weights(options.model, home / "weights")
        gc.collect()
        peer = Peer(home)
        try:
            if "speed" in options.parts:
                selections = [of_subjects(mmlu, [subject], 40, f"40 {subject}") for subject in SHORT[:3]]
                if options.quick:
                    selections = selections[:1]
                else:
                    selections.insert(0, of_subjects(mmlu, SHORT, 40, "200"))
                ratios["speed"] = speed(options.model, peer, selections, report)
            if "agreement" in options.parts and not options.quick:
                llm = model(options.model, None, torch.float32)
                letters = of_subjects(mmlu, AGREEMENT, 20, "letters")
                ratios["agreement_choices"] = choices_agreement(llm, peer, letters, report)
                ratios["agreement_texts"] = texts_agreement(llm, peer, first(gsm8k, 40, "texts"), report)
        finally:
            peer.close()
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
