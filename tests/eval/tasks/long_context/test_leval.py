"""L-Eval's layout with documents of our own: prompts, cuts, credits, and what is said about broken files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qianwen.engine.llm import LLM
from qianwen.eval.task import Answer, Generate, PromptModel, TaskOptions
from qianwen.eval.tasks import TASKS
from qianwen.eval.tasks.long_context.leval import PARTS, LEval
from qianwen.runtime.errors import DataError

ROWS = {
    "coursera": ("Which are even?\nA. 2\nB. 3\nC. 4", "AC"),
    "gsm100": ("Question: 9 + 9?\nLet's think step by step\n", "18"),
    "quality": ("Who?\n\n (A) Ann \n (B) Bob", "(B) Bob"),
    "sci_fi": ("1. Is it so, True or False? Answer this question based on the world described in the document.",
               "True [fact: False]"),
    "tpo": ("when\nA. now\nB. then", "A"),
    "codeU": ("What is f(1)?", "[1, 2.0]"),
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "leval"
    folder.mkdir()
    for name, (question, answer) in ROWS.items():
        rows = [
            {"input": f"{n} {'word ' * 100 * n}end", "instructions": [question] * 2, "outputs": [answer] * 2}
            for n in (1, 9)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def task(data: Path) -> Callable[[str], LEval]:
    return lambda name: LEval(name, TaskOptions(data=data))


def score(task: LEval, text: str, index: int = 0) -> float:
    return task.score(list(task.examples())[index], Answer(text=text)).shares["exact_match"].amount


def test_a_document_with_its_questions_is_in_the_published_prompt(task: Callable[[str], LEval]) -> None:
    first, second, *_ = examples = list(task("tpo").examples())
    assert len(examples) == 4 and first.cluster == second.cluster == "1"
    system, user = (message.text for message in first.messages)
    assert "only a sinlge correct option" in system, "misspelt as published"
    assert (
        user.startswith("Document is as follows. 1 word")
        and "Question: when\nA. now\nB. then \nPlease directly" in user
    )
    assert user.endswith("explanation\n Answer: ")
    assert list(task("gsm100").examples())[0].messages[1].text.endswith(f"end\n\n{ROWS['gsm100'][0]}")


def test_credits_are_the_published_ones(task: Callable[[str], LEval]) -> None:
    assert [score(task("coursera"), text) for text in ("AC", "A", "AB", "", "none")] == [1, 0.25, 0, 0, 0.25]
    assert [score(task("quality"), text) for text in ("B", "(B) Bob", "A", "nobody")] == [1, 1, 0, 0]
    assert [score(task("tpo"), text) for text in ("A.", "B", "no letter")] == [1, 0, 1], "no letter is read as A"
    assert [score(task("gsm100"), text) for text in ("The answer is 18", "18.0", "19", "")] == [1, 1, 0, 0]
    assert [score(task("codeu"), text) for text in ("The output is [1, 2]", "[1, 3]")] == [1, 0]


def test_the_same_answers_are_read_by_our_readers_too(task: Callable[[str], LEval]) -> None:
    def ours(name: str, text: str) -> float:
        return task(name).score(next(iter(task(name).examples())), Answer(text=text)).shares["our_reader"].amount

    boxed = "We add both.\n\n9 + 9 = \\boxed{18}"
    assert score(task("gsm100"), boxed) == 0, "the published rule reads the first paragraph only"
    assert ours("gsm100", boxed) == 1 and ours("gsm100", "19") == 0
    assert score(task("quality"), "Answer: B") == 0, "the published rule reads A"
    assert ours("quality", "Answer: B") == 1 and ours("quality", "Bob") == 1 and ours("quality", "(A) Ann") == 0
    assert "our_reader" not in task("coursera").score(next(iter(task("coursera").examples())), Answer()).shares


def test_a_story_is_asked_about_and_then_the_world_without_the_story(task: Callable[[str], LEval]) -> None:
    story, world, *_ = examples = list(task("sci-fi").examples())
    assert len(examples) == 8 and len(world.messages) == 1
    assert "word word" not in world.messages[0].text and "real-world knowledge" in world.messages[0].text
    assert (story.facts["target"], world.facts["target"]) == ("True", "False")
    assert [score(task("sci-fi"), "False.", index) for index in (0, 1)] == [0, 1]
    shares = task("sci-fi").score(world, Answer(text="no"))
    assert set(shares.shares) == {"exact_match", "exact_match/world"} and shares.verdict == "unparsed"


@pytest.mark.parametrize(("name", "kept"), [("quality", "9 word"), ("codeu", "word end")])
def test_a_document_that_is_too_long_loses_its_end_and_code_its_beginning(
    data: Path, llm: LLM, name: str, kept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = PromptModel(llm.tokenizer, True, 2500)
    task = LEval(name, TaskOptions(data=data, model=lambda: model))
    short, *_, long = task.documents
    assert (short.is_cut, long.is_cut) == (False, True) and len(long.text) > 500
    assert long.text.startswith(kept) or long.text.endswith(kept)
    assert "1 of 2 documents" in " ".join(capsys.readouterr().out.split())
    settings = task.settings()
    assert settings["cut_documents"] == [2] and settings["max_length"] == 2500
    assert all(example.facts["is_cut"] == (example.facts["document"] == 2) for example in task.examples())
    with pytest.raises(DataError, match="the question alone"):
        LEval(name, TaskOptions(data=data, model=lambda: model._replace(max_len=600))).documents  # noqa: B018


def test_a_model_behind_a_url_gets_whole_documents(task: Callable[[str], LEval]) -> None:
    assert not any(document.is_cut for document in task("quality").documents)
    assert task("quality").settings()["documents"] == "whole"


@pytest.mark.parametrize("name", PARTS)
def test_a_missing_file_and_a_missing_column_are_named(data: Path, name: str) -> None:
    path = data / "leval" / f"{PARTS[name].file}.jsonl"
    path.write_text('{"input": "x", "instructions": ["q"]}\n')
    make = TASKS[f"leval-{name}"]
    with pytest.raises(DataError, match=rf"{path.name}.*`outputs`"):
        list(make(TaskOptions(data=data)).examples())
    path.write_text('{"input": "x", "instructions": ["q"], "outputs": []}\n')
    with pytest.raises(DataError, match=rf"{path.name}, row 1.*same length"):
        list(make(TaskOptions(data=data)).examples())
    path.unlink()
    with pytest.raises(DataError, match=f"leval/{path.name}"):
        list(make(TaskOptions(data=data)).examples())


def test_every_example_is_a_conversation(task: Callable[[str], LEval]) -> None:
    assert all(isinstance(example, Generate) for name in PARTS for example in task(name).examples())
