"""Examples that the training text has are found in any kind of example, and the metrics without them are right."""

import random
from pathlib import Path

import pytest

from qianwen.chat.messages import Message
from qianwen.eval.contamination import check_contamination, example_texts, load_contamination, save_contamination
from qianwen.eval.metrics import Share
from qianwen.eval.results import TaskResults
from qianwen.eval.rows import answer_row
from qianwen.eval.task import Answer, Choice, Complete, Example, Generate, Loglikelihood, Score, Scored, Task, Tokenize
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import write_jsonl

draw = random.Random(0)


def words(count: int) -> str:
    return " ".join("".join(draw.choices("abcdefghijkl", k=6)) for _ in range(count))


QUESTIONS = [words(20) for _ in range(12)]
SHOTS = f"Q: {words(20)}\nA: 1\n\nQ: {words(20)}\nA: 2\n\n"
MAKERS = {
    "choice": lambda text: Choice(context=f"{SHOTS}Q: {text}\nA:", choices=("A", "B")),
    "complete": lambda text: Complete(prompt=f"{SHOTS}Q: {text}\nA:"),
    "generate": lambda text: Generate(messages=[Message("user", SHOTS), Message("user", text)]),
    "document": lambda text: Loglikelihood(continuation=text),
    "continuation": lambda text: Loglikelihood(context=text[:50], continuation=text[50:]),
    "tokenize": lambda text: Tokenize(texts=(text[:30], text[30:])),
}


class Planted(Task):
    name = "planted"

    def __init__(self, examples: list[Example]) -> None:
        self.made = examples

    def examples(self) -> list[Example]:
        return self.made

    def score(self, example: Example, answer: Answer) -> Score:
        is_right = answer.text == "right"
        return Score(shares={"acc": Share(float(is_right))}, extracted="x", is_right=is_right)


def check(examples: list[Example], corpus: list[str], folder: Path, wrong_from: int = 6):
    """A model that has the first six examples right."""
    task = Planted(examples)
    scored = []
    for index, example in enumerate(examples):
        answer = Answer(text="right" if index < wrong_from else "wrong")
        scored.append(Scored(example, answer, task.score(example, answer)))
    write_jsonl(folder / "rows.jsonl", (answer_row(index, each) for index, each in enumerate(scored)))
    write_jsonl(folder / "corpus.jsonl", ({"text": text} for text in corpus))
    results = TaskResults("planted", task.estimates(scored), None, {}, len(examples), 0, folder / "rows.jsonl")
    (checked,) = check_contamination(
        {"planted": task}, {"planted": examples}, {"planted": results}, folder / "corpus.jsonl"
    )
    return checked


@pytest.mark.parametrize("kind", MAKERS)
def test_planted_questions_are_found(kind: str, tmp_path: Path) -> None:
    examples = [MAKERS[kind](text) for text in QUESTIONS]
    corpus = [f"{words(30)} {QUESTIONS[number].upper()} {words(30)}" for number in (1, 4, 9)] + [words(300)]
    checked = check(examples, corpus, tmp_path)
    assert checked.indices == [1, 4, 9] and checked.share == 0.25 and checked.num_too_short == 0
    assert checked.clean["acc"].value == 4 / 9 and checked.clean["acc"].num_examples == 9


@pytest.mark.parametrize("kind", MAKERS)
def test_worked_examples_in_the_corpus_are_no_contamination(kind: str, tmp_path: Path) -> None:
    checked = check([MAKERS[kind](text) for text in QUESTIONS], [SHOTS, words(50)], tmp_path)
    assert checked.indices == [] and checked.clean["acc"].value == 0.5


def test_short_questions_are_counted_as_not_checked(tmp_path: Path) -> None:
    examples = [MAKERS["generate"](text) for text in ["2 + 2?", *QUESTIONS[:3]]]
    checked = check(examples, ["what is 2 + 2?", f"a {QUESTIONS[0]} b"], tmp_path)
    assert checked.indices == [1] and checked.num_too_short == 1 and checked.share == 1 / 3


def test_a_task_of_which_all_is_in_the_corpus_has_no_clean_metrics(tmp_path: Path) -> None:
    checked = check([MAKERS["document"](text) for text in QUESTIONS], QUESTIONS, tmp_path)
    assert checked.share == 1 and checked.clean == {}
    save_contamination(tmp_path, [checked], "corpus.jsonl")
    assert load_contamination(tmp_path) == {"planted": checked}


def test_what_is_saved_comes_back_beside_other_tasks(tmp_path: Path) -> None:
    assert load_contamination(tmp_path) == {}
    checked = check([MAKERS["document"](text) for text in QUESTIONS], QUESTIONS[:2], tmp_path)
    (tmp_path / "contamination.json").write_text("{}")
    save_contamination(tmp_path, [checked], "web")
    assert load_contamination(tmp_path) == {"planted": checked}


def test_a_corpus_without_documents_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no documents"):
        check([MAKERS["document"](text) for text in QUESTIONS], [], tmp_path)


def test_the_text_of_a_question_has_no_worked_examples() -> None:
    assert example_texts([MAKERS["complete"](text) for text in ("one", "two")]) == ["Q: one\nA:", "Q: two\nA:"]
    assert example_texts([MAKERS["generate"]("one")]) == ["one"]
