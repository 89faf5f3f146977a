"""Speed of an evaluation: few-shot questions with shared prefixes beside the same engine without, in one process.

    python benchmarks/eval_speed.py --model DIR_OR_GGUF [--data-dir BENCHMARKS --task mmlu] [--items N] [--quick]

Without --data-dir the questions are made from Python's documentation, with five worked examples before each.

ratio sharing   items/s with the prefix cache over items/s without it (bar 2.5)
own share       processor time of the runner (reading, scoring, rows, threads) outside of the engine's steps and the
                tokenizer, as a share of the run's seconds (bar 3 %)
agreement       share of the extracted answers that are the same at 1, 8 and 32 answers at a time, without --exact
                (bar 99.5 %)
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from pairs import Report, alternate, arguments

from qianwen.checkpoints.load import load_model
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.eval import runner
from qianwen.eval.evaluation import Evaluation
from qianwen.eval.metrics import Share
from qianwen.eval.results import load_results
from qianwen.eval.task import Answer, Choice, Example, Score, Task, TaskOptions
from qianwen.eval.tasks import TASKS

BATCHES = (1, 8, 32)
MOST, BLOCK = 20_000, 50  # examples that are read, and that are neighbours
LETTERS = (" A", " B", " C", " D")
QUICK_ITEMS, QUICK_CONTEXT = 24, 2048


class MadeQuestions(Task):
    """Which word is missing? Four subjects in turn; the five worked examples of a subject have about 700 tokens."""

    name, chance, subjects = "made", 0.25, 4

    def __init__(self) -> None:
        texts = [" ".join(text.split())[:600] for _, text in sorted(topics.items()) if len(text) > 800]
        shots, self.texts = 5 * self.subjects, texts
        self.shots = ["\n\n".join(map(self._block, texts[n : n + 5], (*LETTERS, " A"))) for n in range(0, shots, 5)]

    def examples(self) -> Iterator[Choice]:
        for number in range(5 * self.subjects, 1000):
            text = self.texts[number % len(self.texts)]
            shots = self.shots[number % self.subjects]
            yield Choice(context=f"{shots}\n\n{self._block(text[number % 97 :][:300])}", choices=LETTERS)

    def score(self, example: Choice, answer: Answer) -> Score:
        chosen = max(range(4), key=lambda number: answer.choice_logprobs[number])
        return Score(shares={"first": Share(float(chosen == 0))}, extracted=LETTERS[chosen])

    @staticmethod
    def _block(text: str, answer: str = "") -> str:
        first, *rest = text.split()
        options = "\n".join(
            f"{letter.strip()}. {word}" for letter, word in zip(LETTERS, (first, *rest[:3]), strict=True)
        )
        return f"Question: which word is missing in: ___ {' '.join(rest)}\n{options}\nAnswer:{answer}"


class Neighbours(Task):
    """Blocks of neighbours among a task's examples in the order in which they are asked, as a whole run meets them."""

    def __init__(self, task: Task, items: int) -> None:
        self.task, self.name, self.chance = task, task.name, task.chance
        examples = sorted(enumerate(islice(task.examples(), MOST)), key=runner._place)
        count = max(1, items // BLOCK)
        starts = [(2 * block + 1) * len(examples) // (2 * count) for block in range(count)]
        self.chosen = [example for start in starts for _, example in examples[start : start + items // count]]

    def examples(self) -> Iterator[Example]:
        yield from self.chosen

    def score(self, example: Example, answer: Answer) -> Score:
        return self.task.score(example, answer)


class OwnTime:
    """Processor seconds of the runner's threads that are not of the engine's steps or the tokenizer."""

    def __init__(self, llm: LLM) -> None:
        self.seconds = 0.0
        self._lock, self._excluded = threading.Lock(), threading.local()
        llm.engine.step = self._without(llm.engine.step)
        llm.tokenizer.encode = self._without(llm.tokenizer.encode)
        self._outcome, runner._outcome = runner._outcome, self._counted(runner._outcome)

    def close(self) -> None:
        runner._outcome = self._outcome

    def _without(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*args)
            finally:
                self._excluded.seconds = getattr(self._excluded, "seconds", 0.0) + time.thread_time() - began

        return timed

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            began, self._excluded.seconds = time.thread_time(), 0.0
            outcome = function(*args)
            own = time.thread_time() - began - self._excluded.seconds
            with self._lock:
                self.seconds += own
            return outcome

        return counted


def evaluated(llm: LLM, task: Any, items: int, folder: Path) -> dict[int, str | None]:
    """The extracted answers to the first `items` examples, evaluated into `folder`."""
    Evaluation([task], folder, limit=items).run(llm, {"model": llm.name})
    rows = load_results(folder).tasks[task.name].rows
    return {row["index"]: row["score"]["extracted"] for row in rows if "score" in row}


def _task(name: str, data_dir: str) -> Task:
    return TASKS[name](TaskOptions(data=Path(data_dir))) if data_dir else MadeQuestions()


def main() -> None:
    options = arguments(__doc__, model="", data_dir="", task="mmlu", items=200, context=4096)
    items = QUICK_ITEMS if options.quick else options.items
    task = Neighbours(_task(options.task, options.data_dir), items)
    loaded = load_model(options.model, bits="stored")

    def new(**config: Any) -> LLM:
        context = QUICK_CONTEXT if options.quick else options.context
        return LLM(loaded.model, loaded.tokenizer, EngineConfig(max_model_len=context, **config), name=loaded.name)

    def speed(llm: LLM) -> Callable[[], float]:
        def measure() -> float:
            llm.clear_cache()
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                evaluated(llm, task, items, Path(folder))
                return items / (time.perf_counter() - began)

        return measure

    report = Report(f"{task.name}, {items} items, {loaded.name}: prefix sharing on and off", "items/s")
    shared, alone = speed(new()), speed(new(prefix_caching=False))
    pairs = alternate(shared, alone, 1 if options.quick else options.pairs)
    report.add("items", pairs)

    llm = new()
    own = OwnTime(llm)
    with tempfile.TemporaryDirectory() as folder:
        began, main_began = time.perf_counter(), time.thread_time()
        evaluated(llm, task, items, Path(folder))
        seconds = time.perf_counter() - began
    own_seconds = own.seconds + time.thread_time() - main_began
    own.close()
    report.note("own share of the time", round(own_seconds / seconds, 4))

    answers = []
    for batch in BATCHES[-2:] if options.quick else BATCHES:
        with tempfile.TemporaryDirectory() as folder:
            answers.append(evaluated(new(max_num_seqs=batch), task, items, Path(folder)))
    same = sum(len({each[index] for each in answers}) == 1 for index in answers[0])
    report.note("agreement over batch sizes", round(same / len(answers[0]), 4))
    report.finish({"sharing": pairs.ratio}, options.json)


if __name__ == "__main__":
    main()
