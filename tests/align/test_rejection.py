import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qianwen.align.dialogues import read_dialogues
from qianwen.align.rejection import (
    PATHS,
    SAMPLES,
    YIELD,
    Problem,
    RejectionConfig,
    draw,
    judge,
    missing,
    read_problems,
    select,
)
from qianwen.chat.model import Delta
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import RunFolder, read_jsonl, write_jsonl

REPLIES = [
    "48 / 2 = 24 clips in May, so 48 + 24 = 72. The answer is 72. Let me check.",
    "In May 48/2=24 clips. In all 48+24=72 clips. The answer is 72.",  # the same equations in other words
    "48 * 1.5 = 72. The answer is 72.",
    "48 + 48 = 72. The answer is 72.",  # right by a wrong calculation
    "48 * 2 = 96. The answer is 96.",
    "It is clearly 72.",  # nothing calculated
]


class Parrot:
    """Answers sample number n of a problem with REPLIES[n], as its seed says; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._lock = threading.Lock()

    def chat(self, messages, functions=(), stop=(), **sampling) -> Iterator[Delta]:
        with self._lock:
            self.asked.append(sampling["seed"])
        yield Delta(REPLIES[sampling["seed"] % 1009 % len(REPLIES)])
        yield Delta(finish_reason="stop")


PROBLEM = Problem("How many clips?", "48/2 = <<48/2=24>>24\n#### 72")


def config(**fields) -> RejectionConfig:
    return RejectionConfig(model="parrot", problems="clips.jsonl", samples=6, concurrency=3, licence="MIT", **fields)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "rft", "reject", config())


def test_the_distinct_right_paths_are_kept(folder: RunFolder) -> None:
    problems = [PROBLEM, PROBLEM]
    rows = list(draw(Parrot(), problems, missing(problems, config(), folder), config(), folder))
    assert [(row["problem"], row["sample"]) for row in rows] == [(p, s) for p in range(2) for s in range(6)]
    counts = select(problems, config(), folder)
    assert counts["samples"] == 12 and counts["right"] == 6 and counts["distinct paths"] == 4
    assert counts["wrong answer"] == 2 and counts["wrong calculation"] == 2 and counts["no calculation"] == 2
    assert counts["problems solved"] == 2 and counts["share right"] == 0.5
    assert counts == json.loads((folder.path / YIELD).read_text())
    kept = list(read_jsonl(folder.path / PATHS))
    assert [row["equations"] for row in kept[:2]] == [["48/2=24", "48+24=72"], ["48*1.5=72"]]
    assert kept[0]["text"].endswith("The answer is 72. Let me check.") or kept[0]["text"].endswith("The answer is 72.")
    assert {row["kind"] for row in kept} == {"math"} and {row["licence"] for row in kept} == {"MIT"}


def test_what_is_kept_can_be_fine_tuned_on(folder: RunFolder) -> None:
    list(draw(Parrot(), [PROBLEM], missing([PROBLEM], config(), folder), config(), folder))
    select([PROBLEM], config(), folder)
    dialogues = list(read_dialogues(folder.path / PATHS))
    assert [message.role for message in dialogues[0].messages] == ["user", "assistant"]


def test_a_killed_run_draws_only_what_is_missing_and_ends_the_same(folder: RunFolder, tmp_path: Path) -> None:
    problems = [PROBLEM] * 3
    whole = RunFolder.create(tmp_path / "whole", "reject", config())
    list(draw(Parrot(), problems, missing(problems, config(), whole), config(), whole))
    steps = draw(Parrot(), problems, missing(problems, config(), folder), config(), folder)
    for _ in range(7):
        next(steps)
    steps.close()
    with (folder.path / SAMPLES).open("a") as file:
        file.write('{"problem": 1, "sam')  # what a kill leaves
    left = missing(problems, config(), folder)
    assert left[0] == (1, 1) and len(left) == 11
    again = Parrot()
    list(draw(again, problems, left, config(), folder))
    assert len(again.asked) == 11 == len(set(again.asked))
    assert (folder.path / SAMPLES).read_text() == (whole.path / SAMPLES).read_text()


def test_an_answer_that_was_cut_short_is_not_judged_by_its_last_number() -> None:
    assert judge({"text": "First 48 + 24 = 72", "finish_reason": "length"}, "72")[0] == "cut short"
    assert judge({"text": "First 48 + 24 = 72", "finish_reason": "stop"}, "72")[0] == "right"


def test_problems_need_a_question_and_a_number(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    write_jsonl(path, [{"question": "1 + 1?", "answer": "#### 2"}, {"question": "Why?", "answer": "because"}])
    with pytest.raises(DataError, match="row 2"):
        read_problems(RejectionConfig(model="m", problems=str(path)))
    assert len(read_problems(RejectionConfig(model="m", problems=str(path), limit=1))) == 1
