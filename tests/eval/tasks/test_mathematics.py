"""GSM8K and MATH in their layouts, with rows of our own."""

import json
import zipfile
from pathlib import Path

import pytest

from qianwen.eval.task import Answer, Complete, Generate, TaskOptions
from qianwen.eval.tasks.mathematics import Gsm8k, Gsm8kChat, Gsm8kChat4Shot, Math
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import write_jsonl

PROBLEM = {"question": "48 clips, and half as many again?", "answer": "48/2 = <<48/2=24>>24\n48+24=72\n#### 72"}
TRAINING = [{"question": f"{n} + 1?", "answer": f"It is <<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1}"} for n in range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "gsm8k_test.jsonl.zst", [PROBLEM])
    write_jsonl(tmp_path / "gsm8k_train.jsonl", TRAINING)
    return tmp_path


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("48 + 24 = 72.", "right"),
        ("The answer is \\boxed{72} of 80", "right"),
        ("The answer is 72 clips in 2 months.", "right"),
        ("It makes 72.00", "right"),
        ("The answer is 71.", "wrong"),
        ("1,072", "wrong"),
        ("", "unparsed"),
        ("I do not know.", "unparsed"),
    ],
)
@pytest.mark.parametrize("kind", [Gsm8k, Gsm8kChat])
def test_the_number_that_a_reply_gives_counts(folder: Path, kind: type[Gsm8k], reply: str, verdict: str) -> None:
    task = kind(TaskOptions(data=folder))
    score = task.score(next(iter(task.examples())), Answer(text=reply))
    assert score.verdict == verdict and score.shares == {"exact_match": (verdict == "right", 1)}


def test_a_base_model_gets_eight_examples_in_the_published_form(folder: Path) -> None:
    (example,) = Gsm8k(TaskOptions(data=folder)).examples()
    assert isinstance(example, Complete)
    shots = [
        f"Question: {n} + 1?\nLet's think step by step\nIt is {n + 1}.\nThe answer is {n + 1}\n\n" for n in range(8)
    ]
    assert example.prompt == "".join(shots) + f"Question: {PROBLEM['question']}\nLet's think step by step\n"
    assert example.stop == ("<|endoftext|>", "\n\n\n", "\n\n", "Question:")


def test_a_chat_model_gets_the_bare_question_or_four_examples_in_one_message(folder: Path) -> None:
    (bare,) = Gsm8kChat(TaskOptions(data=folder)).examples()
    (shown,) = Gsm8kChat4Shot(TaskOptions(data=folder)).examples()
    assert isinstance(bare, Generate) and isinstance(shown, Generate)
    assert [message.text for message in bare.messages] == [PROBLEM["question"]]
    assert len(shown.messages) == 1 and shown.messages[0].text.count("The answer is") == 4
    assert shown.messages[0].text.endswith(f"Question: {PROBLEM['question']}\nLet's think step by step\n")


def test_the_settings_say_which_examples_are_shown(folder: Path) -> None:
    settings = Gsm8k(TaskOptions(data=folder, shots=2)).settings()
    assert settings["protocol"] == "base, 2-shot" and settings["shots"]["text"].count("The answer is") == 2
    assert settings["shots"]["source"] == "rows 1 to 2 of the training file, in this order"
    assert settings["extractor"]["name"] == "final_number" and 0 < settings["extractor"]["error_rate"] < 1
    bare = Gsm8kChat(TaskOptions(data=folder)).settings()
    assert bare["shots"] == {"source": "none", "text": ""} and bare["template"] == "{question}"


def test_too_few_examples_or_no_training_file_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="10 worked examples, but 11"):
        list(Gsm8k(TaskOptions(data=folder, shots=11)).examples())
    (folder / "gsm8k_train.jsonl").unlink()
    with pytest.raises(DataError, match="gsm8k_train"):
        list(Gsm8k(TaskOptions(data=folder / "gsm8k_test.jsonl.zst")).examples())
    assert len(list(Gsm8kChat(TaskOptions(data=folder / "gsm8k_test.jsonl.zst")).examples())) == 1


@pytest.mark.parametrize("row", [{"question": "1 + 1?"}, {"question": "1 + 1?", "answer": "two"}, {"answer": "2"}])
def test_a_row_that_cannot_be_judged_is_named(tmp_path: Path, row: dict) -> None:
    write_jsonl(tmp_path / "gsm8k_test.jsonl", [PROBLEM, row])
    with pytest.raises(DataError, match="row 2"):
        list(Gsm8kChat(TaskOptions(data=tmp_path)).examples())


# ---- MATH --------------------------------------------------------------------------------------------------------

ANSWERS = {
    "algebra": ["3", r"\frac{1}{2}", "x^2 + 1", "(1, 2)"],
    "geometry": [r"12\text{ cm}", r"90^\circ", r"2\sqrt{3}"],
    "probability": [r"\dfrac{1}{6}", r"25\%", "0.5"],
}  # ten problems


def problem(kind: str, number: int, answer: str) -> dict[str, str]:
    solution = f"We compute and find ${answer}$, so $\\boxed{{{answer}}}$."
    return {"problem": f"Problem {number} of {kind}?", "solution": solution, "level": "Level 2", "type": kind.title()}


@pytest.fixture
def math(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for kind, answers in ANSWERS.items():
            (tmp_path / "MATH" / split / kind).mkdir(parents=True)
            for number, answer in enumerate(answers):
                path = tmp_path / "MATH" / split / kind / f"{number}.json"
                path.write_text(json.dumps(problem(kind, number, answer)))
    return tmp_path


def test_types_take_turns_after_four_worked_examples(math: Path) -> None:
    examples = list(Math(TaskOptions(data=math)).examples())
    assert [example.facts["type"] for example in examples[:4]] == ["Algebra", "Geometry", "Probability", "Algebra"]
    assert len(examples) == 10 and examples[0].facts["target"] == "3"
    assert examples[0].prompt.count("\\boxed") == 4
    assert examples[0].prompt.endswith("Problem:\nProblem 0 of algebra?\n\nSolution:")


def test_archives_and_lines_are_read_like_the_folder(math: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    expected = list(Math(TaskOptions(data=math)).examples())
    packed, lines = tmp_path_factory.mktemp("packed"), tmp_path_factory.mktemp("lines")
    with zipfile.ZipFile(packed / "MATH.zip", "w") as archive:
        for path in math.rglob("*.json"):
            archive.write(path, path.relative_to(math))
    rows = [problem(kind, i, answer) for kind, answers in ANSWERS.items() for i, answer in enumerate(answers)]
    for split in ("train", "test"):
        write_jsonl(lines / f"math_{split}.jsonl", rows)
    for data in (packed, lines, math / "MATH", packed / "MATH.zip"):
        shots = 0 if data.is_file() else None
        own = expected if shots is None else list(Math(TaskOptions(data=math, shots=0)).examples())
        assert list(Math(TaskOptions(data=data, shots=shots)).examples()) == own


@pytest.mark.parametrize(
    ("reply", "number", "verdict"),
    [
        (r"so $\boxed{3}$", 0, "right"),
        ("The final answer is $3$.", 0, "right"),
        (r"\boxed{12}", 1, "right"),
        (r"\boxed{1/6}", 2, "right"),
        (r"\boxed{0.5}", 3, "right"),
        (r"\boxed{90}", 4, "right"),
        (r"\boxed{4}", 0, "wrong"),
        (r"\boxed{x^2+2}", 6, "wrong"),
        (r"\boxed{\frac{1", 3, "unparsed"),
        ("I do not know.", 0, "unparsed"),
    ],
)
def test_formulas_are_compared_in_one_form(math: Path, reply: str, number: int, verdict: str) -> None:
    task = Math(TaskOptions(data=math))
    assert task.score(list(task.examples())[number], Answer(text=reply)).verdict == verdict


@pytest.mark.parametrize("broken", [{"solution": "3"}, {"level": 2}, {"problem": None}])
def test_a_broken_problem_is_named(math: Path, broken: dict) -> None:
    (math / "MATH" / "test" / "algebra" / "1.json").write_text(json.dumps(problem("algebra", 1, "3") | broken))
    with pytest.raises(DataError, match=r"algebra/1\.json"):
        list(Math(TaskOptions(data=math)).examples())


def test_a_folder_without_problems_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MATH").mkdir()
    with pytest.raises(DataError, match="test/TYPE"):
        list(Math(TaskOptions(data=tmp_path, shots=0)).examples())
