"""The few-shot and the chat protocol: what is asked, what counts as right, and what is written into the result."""

from dataclasses import replace
from pathlib import Path

import pytest

from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.eval.runner import run_task
from qianwen.eval.task import Answer, TaskOptions
from qianwen.eval.tasks.ceval import CEVAL
from qianwen.eval.tasks.mmlu import MMLU
from qianwen.eval.tasks.multiple_choice import FewShot, ZeroShotChat
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.log import console

HEADER = "id,question,A,B,C,D,answer\n"
LAW = ["0,law 0?,1,2,3,4,A\n", "1,law 1?,1,2,3,4,B\n"]
LOGIC = ["0,logic 0?,一个,两个,三个,四个,C\n"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("val", "dev"):
        (tmp_path / "ceval" / split).mkdir(parents=True)
    for subject, rows in {"law": LAW, "logic": LOGIC}.items():
        shots = [f"{i},shot {i} of {subject}?,1,2,3,4,{'ABCDA'[i]}\n" for i in range(5)]
        (tmp_path / "ceval" / "val" / f"{subject}_val.csv").write_text(HEADER + "".join(rows))
        (tmp_path / "ceval" / "dev" / f"{subject}_dev.csv").write_text(HEADER + "".join(shots))
    return tmp_path


def test_few_shot_examples_have_the_shots_of_their_own_subject(folder: Path) -> None:
    examples = list(FewShot("ceval", CEVAL, TaskOptions(data=folder)).examples())
    assert [example.facts for example in examples] == [
        {"subject": "law", "id": "0", "target": "A"},
        {"subject": "logic", "id": "0", "target": "C"},
        {"subject": "law", "id": "1", "target": "B"},
    ]
    for example in examples:
        subject = example.facts["subject"]
        asked = [line for line in example.context.splitlines() if line.startswith("问题：")]
        assert asked[:-1] == [f"问题：shot {i} of {subject}?" for i in range(5)]
        assert asked[-1] == f"问题：{subject} {example.facts['id']}?"
        assert example.choices == ("A", "B", "C", "D") and example.max_tokens == 0


@pytest.mark.parametrize("shots", [0, 1, 4])
def test_the_number_of_shots_can_be_chosen(folder: Path, shots: int) -> None:
    task = FewShot("ceval", CEVAL, TaskOptions(data=folder, shots=shots))
    assert next(iter(task.examples())).context.count("答案：") == shots + 1
    assert task.settings()["protocol"].startswith(f"{shots}-shot")


def test_zero_shots_need_no_file_of_shots(folder: Path) -> None:
    for path in (folder / "ceval" / "dev").iterdir():
        path.unlink()
    assert list(FewShot("ceval", CEVAL, TaskOptions(data=folder, shots=0)).examples())


@pytest.mark.parametrize(("num_rows", "message"), [(3, "has 3 worked"), (None, "has 0 worked")])
def test_a_subject_without_enough_shots_is_named(folder: Path, num_rows: int | None, message: str) -> None:
    path = folder / "ceval" / "dev" / "logic_dev.csv"
    if num_rows is None:
        path.unlink()
    else:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[: num_rows + 1]))
    with pytest.raises(DataError, match=rf"subject logic {message} examples \(dev split\), but 5 are needed"):
        list(FewShot("ceval", CEVAL, TaskOptions(data=folder)).examples())


def test_a_missing_subject_is_printed_and_counted(folder: Path) -> None:
    task = FewShot("ceval", CEVAL, TaskOptions(data=folder))
    with console.capture() as printed:
        list(task.examples())
    assert "ceval: 50 of 52 subjects have no file" in printed.get() and "accountant" in printed.get()
    assert task.settings()["subjects"] == "2 of 52" and task.settings()["questions"] == 3


@pytest.mark.parametrize(
    ("logprobs", "letter", "right"),
    [((-1.0, -2.0, -3.0, -4.0), "A", 1), ((-9.0, -8.0, -0.1, -9.0), "C", 0), ((-2.0, -2.0, -2.0, -2.0), "A", 1)],
)
def test_the_most_likely_letter_is_chosen(folder: Path, logprobs: tuple, letter: str, right: int) -> None:
    task = FewShot("ceval", CEVAL, TaskOptions(data=folder))
    score = task.score(next(iter(task.examples())), Answer(choice_logprobs=logprobs))
    assert score.shares == {"acc": (right, 1)} and score.extracted == letter and score.is_right == bool(right)


def test_the_engine_answers_and_the_shots_matter(folder: Path, llm: LLM, long_model: Qwen) -> None:
    roomy = LLM(long_model, llm.tokenizer, EngineConfig(max_model_len=2048))
    results = [run_task(FewShot("ceval", CEVAL, TaskOptions(data=folder, shots=n)), roomy) for n in (5, 0)]
    for result in results:
        assert list(result.metrics) == ["acc", "acc/Humanities"] and result.metrics["acc"].num_examples == 3
        assert all(len(answer.choice_logprobs) == 4 for _, answer, _ in result.scored)
    assert results[0].scored[0].answer != results[1].scored[0].answer


def test_a_prompt_longer_than_the_release_keeps_loses_its_beginning(llm: LLM, long_model: Qwen, tmp_path: Path) -> None:
    for split in ("test", "dev"):
        (tmp_path / split).mkdir()
        row = f"{split}?,{'a' * 600},b,c,d,A\n"
        (tmp_path / split / f"virology_{split}.csv").write_text(row * (1 if split == "test" else 5))
    task = FewShot("mmlu", replace(MMLU, blank=""), TaskOptions(data=tmp_path))  # the vocabulary has no " A"
    (example,) = task.examples()
    assert len(example.context) > 2048 and task.settings()["prompt_tokens"] == "the last 2047"
    roomy = LLM(long_model, llm.tokenizer, EngineConfig(max_model_len=2048))
    assert run_task(task, roomy).metrics["acc"].num_examples == 1, "it fits because it is cut"


@pytest.mark.parametrize(
    ("reply", "right", "verdict"),
    [("C", 1, "right"), ("答案是C。", 1, "right"), ("三个", 1, "right"), ("选D", 0, "wrong"), ("", 0, "unparsed")],
)
def test_a_reply_is_read(folder: Path, reply: str, right: int, verdict: str) -> None:
    task = ZeroShotChat("ceval-chat", CEVAL, TaskOptions(data=folder))
    example = list(task.examples())[1]
    score = task.score(example, Answer(text=reply))
    assert score.shares == {"acc": (right, 1)} and score.verdict == verdict


def test_a_chat_question_stands_alone(folder: Path) -> None:
    task = ZeroShotChat("ceval-chat", CEVAL, TaskOptions(data=folder))
    (message,) = list(task.examples())[1].messages
    assert message.role == "user" and message.content == "logic 0?\n\nA. 一个\nB. 两个\nC. 三个\nD. 四个\n"
    assert task.settings()["prompt"] == "{question}\n\nA. {A}\nB. {B}\nC. {C}\nD. {D}\n"
    assert task.settings()["protocol"].startswith("zero-shot, chat, greedy") and task.chance == 0.25


def test_letters_that_are_not_one_token_end_the_run_at_the_first_question(
    folder: Path, llm: LLM, long_model: Qwen
) -> None:
    roomy = LLM(long_model, llm.tokenizer, EngineConfig(max_model_len=2048))
    with pytest.raises(ConfigError, match="the choice ' A' is 2 tokens in the vocabulary of this model"):
        run_task(FewShot("ceval", replace(CEVAL, blank=" "), TaskOptions(data=folder)), roomy)
