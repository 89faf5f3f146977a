"""A folder of results: it goes on where it stopped, and never mixes answers to different settings."""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from qianwen.chat import Delta, Message, Usage
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.eval.evaluation import Evaluation
from qianwen.eval.metrics import Share
from qianwen.eval.results import PROGRESS, RESULTS, SETTINGS, answers_path, load_results
from qianwen.eval.task import Answer, Choice, Complete, Example, Generate, Loglikelihood, Score, Task
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError, DataError, RequestError

SETTINGS_OF_MODEL = {"model": "tiny", "weights": "w", "bits": 16, "exact": False}


class Quiz(Task):
    """Questions to a chat model."""

    chance = 0.5

    def __init__(self, count: int = 12, name: str = "quiz", shots: int = 0, offset: int = 0) -> None:
        self.name, self.count, self.shots, self.offset = name, count, shots, offset

    def examples(self) -> Iterator[Generate]:
        for number in range(self.count):
            text = f"question {number + self.offset}"
            yield Generate(messages=[Message("user", text)], facts={"target": number % 2}, cluster=str(number // 3))

    def score(self, example: Generate, answer: Answer) -> Score:
        is_right = answer.text.endswith(str(example.facts["target"]))
        return Score(shares={"acc": Share(float(is_right))}, extracted=answer.text or None, is_right=is_right)

    def settings(self) -> dict[str, Any]:
        return {"shots": self.shots, "template": {"text": "question {n}"}}


class Oracle:
    """A ChatModel that fails for questions in `broken`, and is interrupted at its `limit`-th question."""

    def __init__(self, broken: tuple[str, ...] = (), limit: int = 10**9) -> None:
        self.questions: list[str] = []
        self.broken, self.limit = broken, limit

    def chat(self, messages: Sequence[Message], *_: Any, **options: Any) -> Iterator[Delta]:
        text = messages[-1].text
        self.questions.append(text)
        if len(self.questions) > self.limit:
            raise KeyboardInterrupt
        if text in self.broken:
            raise RequestError("too long")
        yield Delta(text=f"it is {hashlib.sha256(text.encode()).digest()[0] % 2}")
        yield Delta(finish_reason="stop", usage=Usage(1, 4))


def run(folder: Path, *tasks: Task, model: Any = None, limit: int = 0, restart: bool = False, **changed: Any) -> Oracle:
    model = model or Oracle()
    Evaluation(tasks, folder, limit=limit).run(model, SETTINGS_OF_MODEL | changed, restart=restart)
    return model


def contents(folder: Path) -> dict[str, bytes]:
    """The files in which two equal runs are equal."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.json*"))
            if path.name != PROGRESS}  # fmt: skip


def test_a_folder_has_settings_rows_metrics_and_times(tmp_path: Path) -> None:
    run(tmp_path, Quiz())
    results = load_results(tmp_path)
    task = results.tasks["quiz"]
    assert results.settings["bits"] == 16 and task.chance == 0.5 and task.settings["template"]["text"]
    assert [row["index"] for row in task.rows] == list(range(12)) and task.rows[4]["cluster"] == "1"
    right = sum(row["score"]["verdict"] == "right" for row in task.rows)
    assert task.metrics["acc"].value == pytest.approx(right / 12) and task.num_examples == 12 == task.metrics["acc"][3]
    progress = [json.loads(line) for line in (tmp_path / PROGRESS).read_text().splitlines()]
    assert {row["index"] for row in progress[1:]} == set(range(12)) and progress[0]["workers"]
    assert b"second" not in b"".join(contents(tmp_path).values())
    assert json.loads((tmp_path / RESULTS).read_text())["weights"] == "w"


def test_the_same_call_again_asks_nothing_and_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path, Quiz())
    before = contents(tmp_path)
    assert not run(tmp_path, Quiz()).questions and contents(tmp_path) == before


@pytest.mark.parametrize("seed", range(8))
def test_cut_anywhere_it_ends_with_the_same_files(tmp_path: Path, seed: int) -> None:
    moments = random.Random(seed)
    run(tmp_path / "whole", Quiz(40))
    folder = tmp_path / "cut"
    path = answers_path(folder, "quiz")
    for number in range(5):
        model = Oracle(limit=moments.randrange(1, 12))
        with pytest.raises(KeyboardInterrupt) if number == 0 else suppress(KeyboardInterrupt):
            run(folder, Quiz(40), model=model)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - moments.randrange(0, 30)])  # as a kill would leave it
    model = run(folder, Quiz(40))
    assert contents(folder) == contents(tmp_path / "whole") and len(model.questions) < 40


def test_an_example_that_failed_is_counted_and_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tuple(f"question {number}" for number in range(3, 10))
    run(tmp_path / "a", Quiz(), model=Oracle(broken))
    out = capsys.readouterr().out
    assert out.count("too long") == 5 and "further errors" in out and "7 errors" in out
    task = load_results(tmp_path / "a").tasks["quiz"]
    assert task.num_errors == 7 and task.metrics["acc"].num_examples == 5 and task.rows[3]["error"] == "too long"
    assert sorted(run(tmp_path / "a", Quiz()).questions) == sorted(broken)
    run(tmp_path / "b", Quiz())
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_other_tasks_join_and_stay(tmp_path: Path) -> None:
    run(tmp_path, Quiz(name="one"), Quiz(5, name="two"))
    run(tmp_path, Quiz(7, name="three"))
    results = load_results(tmp_path)
    assert list(results.tasks) == ["one", "three", "two"] and set(results.settings["tasks"]) == set(results.tasks)
    assert not run(tmp_path, Quiz(5, name="two")).questions


@pytest.mark.parametrize(
    ("task", "changed", "difference"),
    [
        (Quiz(shots=5), {}, "quiz.shots = 0, not 5"),
        (Quiz(), {"weights": "v"}, "weights = w, not v"),
        (Quiz(), {"bits": None}, "bits = 16, not None"),
        (Quiz(), {"exact": True}, "exact = False, not True"),
        (Quiz(), {"template": {"sha256": "1"}}, "template.sha256 = None, not 1"),
        (Quiz(name="another"), {"bits": 4}, "bits = 16, not 4"),
    ],
)
def test_other_settings_are_refused_and_named(
    tmp_path: Path, task: Quiz, changed: dict[str, Any], difference: str
) -> None:
    run(tmp_path, Quiz())
    before, model = contents(tmp_path), Oracle()
    with pytest.raises(ConfigError, match=difference):
        run(tmp_path, task, model=model, **changed)
    assert not model.questions and contents(tmp_path) == before
    assert run(tmp_path, task, restart=True, **changed).questions
    run(tmp_path / "fresh", task, **changed)
    assert contents(tmp_path / "fresh") == {
        name: data for name, data in contents(tmp_path).items() if not name.startswith("fresh")
    }


def test_a_restart_discards_the_named_tasks_only(tmp_path: Path) -> None:
    run(tmp_path, Quiz(name="one"), Quiz(name="two"))
    assert len(run(tmp_path, Quiz(name="one"), restart=True).questions) == 12
    assert set(load_results(tmp_path).tasks) == {"one", "two"}


def test_a_limit_may_grow_and_not_shrink(tmp_path: Path) -> None:
    run(tmp_path, Quiz(), limit=4)
    assert len(run(tmp_path, Quiz(), limit=9).questions) == 5 and len(run(tmp_path, Quiz()).questions) == 3
    run(tmp_path / "whole", Quiz())
    assert (tmp_path / RESULTS).read_bytes() == (tmp_path / "whole" / RESULTS).read_bytes()
    with pytest.raises(ConfigError, match="quiz.limit = 0, not 4"):
        run(tmp_path, Quiz(), limit=4)


def test_answers_to_other_questions_are_not_taken_for_these(tmp_path: Path) -> None:
    run(tmp_path, Quiz())
    with pytest.raises(DataError, match="example 0: the question differs"):
        run(tmp_path, Quiz(offset=1))
    with pytest.raises(DataError, match="example 7: the question differs"):
        run(tmp_path, Quiz(7))


def test_what_a_model_cannot_do_is_known_before_the_first_question_of_any_task(tmp_path: Path) -> None:
    class Documents(Quiz):
        def examples(self) -> Iterator[Example]:  # type: ignore[override]
            yield Loglikelihood(continuation="text")

    model = Oracle()
    with pytest.raises(ConfigError, match="documents needs likelihoods"):
        run(tmp_path, Quiz(), Documents(name="documents"), model=model)
    assert not model.questions and not (tmp_path / SETTINGS).exists()


def test_two_processes_do_not_write_one_folder(tmp_path: Path) -> None:
    class Nested(Oracle):
        def chat(self, *args: Any, **options: Any) -> Iterator[Delta]:
            with pytest.raises(ConfigError, match="is in use by process"):
                run(tmp_path, Quiz())
            return super().chat(*args, **options)

    assert run(tmp_path, Quiz(), model=Nested()).questions


class Everything(Task):
    """Every kind of example that a model which runs here can answer, with shared beginnings."""

    name = "everything"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def examples(self) -> Iterator[Example]:
        for number in range(12):
            shots = "abc"[number % 3] * 40
            yield Choice(context=f"{shots}{number}", choices=("A", "B", "C"))
            yield Complete(prompt=f"{shots}{number}", max_tokens=3 + number)
            yield Generate(messages=[Message("user", f"q {number}")], max_tokens=6, num_samples=1 + number % 2,
                           sampling={"temperature": 1.0} if number % 2 else {})  # fmt: skip
            yield Loglikelihood(continuation=f"document {number} " * (number + 1))

    def score(self, example: Example, answer: Answer) -> Score:
        value = answer.logprob + sum(answer.choice_logprobs) + len(answer.text)
        return Score(shares={type(example).__name__: Share(value)})


def shuffled(order: int) -> Any:
    def place(indexed: tuple[int, Example]) -> float:
        return random.Random(order * 1000 + indexed[0]).random()

    return place


@pytest.mark.parametrize("order", [None, 1, 2])
def test_exact_rows_are_the_same_at_any_batch_and_in_any_order(
    llm: LLM, long_model: Qwen, tmp_path: Path, order: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if order is not None:
        monkeypatch.setattr("qianwen.eval.runner._place", shuffled(order))
    hashes = set()
    for batch in (1, 8, 32):
        config = EngineConfig(max_num_seqs=batch, max_model_len=512, batch_invariant=True)
        engine = LLM(long_model, llm.tokenizer, config)
        Evaluation([Everything()], tmp_path / str(batch)).run(engine, SETTINGS_OF_MODEL)
        hashes.add(hashlib.sha256(b"".join(contents(tmp_path / str(batch)).values())).hexdigest())
    assert len(hashes) == 1
    whole = EngineConfig(max_num_seqs=8, max_model_len=512, batch_invariant=True)
    Evaluation([Everything()], tmp_path / "plain").run(LLM(long_model, llm.tokenizer, whole), SETTINGS_OF_MODEL)
    assert hashes == {hashlib.sha256(b"".join(contents(tmp_path / "plain").values())).hexdigest()}
