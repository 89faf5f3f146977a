"""Which examples of a task are in the text that a model was trained on, and the metrics without them.

An example counts as contaminated if a run of 13 of its words is in the corpus, as `data/curate/decontamination.py`
compares words; an example of 8 to 12 words if all of it is. Shorter ones cannot be checked. Worked examples before a
question are no part of it, and neither is what three or more examples of the task have in common.

`contamination.json` in the folder of results has the indices and the metrics of the other examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qianwen.data.curate.decontamination import Benchmarks, runs_in, texts_with
from qianwen.data.documents.readers import readable_documents
from qianwen.data.text_arrays import Texts, by_size
from qianwen.eval.metrics import Estimate
from qianwen.eval.question_texts import question_texts
from qianwen.eval.results import TaskResults, read_json, save_json
from qianwen.eval.rows import prompt_texts, scored_of
from qianwen.eval.runner import estimates
from qianwen.eval.task import Episode, Example, Generate, Loglikelihood, Task, Tokenize
from qianwen.runtime.errors import DataError
from qianwen.runtime.log import progress
from qianwen.runtime.translation import tr

CONTAMINATION = "contamination.json"


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """The contaminated examples of a task, and its metrics on the clean ones; those too short count as clean."""

    task: str
    num_examples: int
    indices: list[int]
    num_too_short: int
    clean: dict[str, Estimate]

    @property
    def share(self) -> float:
        """The share of the examples that could be checked; 0 if none could."""
        return len(self.indices) / max(1, self.num_examples - self.num_too_short)


def check_contamination(
    tasks: Mapping[str, Task],
    examples: Mapping[str, Sequence[Example]],
    results: Mapping[str, TaskResults],
    corpus: str | Path,
) -> list[Contamination]:
    """Read `corpus` once for all `tasks`. Raises DataError if it has no documents."""
    texts = {name: example_texts(examples[name]) for name in tasks}
    wanted = {
        name: Benchmarks.from_texts((name, str(index), text) for index, text in enumerate(texts[name]))
        for name in tasks
    }
    found = _found(wanted, corpus)
    checked = []
    for name, task in tasks.items():
        hits = texts_with(Texts(texts[name]), found[name])
        rows = [row for row in results[name].rows if "error" not in row and row["index"] not in hits]
        clean = estimates(task, [scored_of(row, examples[name][row["index"]]) for row in rows])
        counts = {"num_examples": len(texts[name]), "num_too_short": wanted[name].too_short}
        checked.append(Contamination(task=name, indices=sorted(hits), clean=clean, **counts))
    return checked


def _found(wanted: Mapping[str, Benchmarks], corpus: str | Path) -> dict[str, dict[int, set[int]]]:
    """The runs of each task that are in the corpus, by their number of words."""
    found: dict[str, dict[int, set[int]]] = {name: {size: set() for size in each.runs} for name, each in wanted.items()}
    is_empty = True
    batches = by_size(document["text"] for document in readable_documents(corpus))
    for batch in progress(batches, None, tr("training corpus")):
        arrays, is_empty = Texts(batch), False
        for name, benchmarks in wanted.items():
            for size, runs in runs_in(arrays, benchmarks).items():
                found[name][size].update(runs)
    if is_empty:
        raise DataError(tr("{path} contains no documents", path=corpus))
    return found


def example_texts(examples: Sequence[Example]) -> list[str]:
    """The text of each example that a corpus could contain: its document, or its question."""
    prompts = [prompt_texts(example)[-1:] for example in examples]
    questions = question_texts(["".join(prompt) for prompt in prompts])
    return [_whole_text(example) or question for example, question in zip(examples, questions, strict=True)]


def _whole_text(example: Example) -> str:
    """The text if no worked examples are in it: a document, or the last message of a conversation."""
    match example:
        case Loglikelihood():
            return example.context + example.continuation
        case Tokenize():
            return "\n".join(example.texts)
        case Generate() | Episode():
            return example.messages[-1].text
        case _:
            return ""


def save_contamination(folder: Path, checked: Sequence[Contamination], corpus: str | Path) -> Path:
    """Add the tasks to `contamination.json`."""
    path = folder / CONTAMINATION
    saved = read_json(path) if path.exists() else {}
    tasks = {each.task: {"corpus": str(corpus), **asdict(each), "clean": each.clean} for each in checked}
    save_json(path, saved | tasks)
    return path


def load_contamination(folder: Path) -> dict[str, Contamination]:
    """What `save_contamination` wrote, by task; empty if the folder has no such file."""
    path = folder / CONTAMINATION
    saved = read_json(path) if path.exists() else {}
    return {name: _loaded(task) for name, task in saved.items()}


def _loaded(task: Mapping[str, Any]) -> Contamination:
    fields = {name: value for name, value in task.items() if name != "corpus"}
    return Contamination(**fields | {"clean": {name: Estimate(*values) for name, values in task["clean"].items()}})
