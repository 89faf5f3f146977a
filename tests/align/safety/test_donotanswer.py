"""The two halves of Do-Not-Answer."""

from pathlib import Path

import pytest

from qianwen.align.safety.donotanswer import CATEGORIES, evaluation_prompts, is_held_out, training_prompts
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import write_jsonl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*CATEGORIES, "human_chatbox"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"prompt": f"{name} {n}?"} for n in range(40)])
    return tmp_path


def test_the_halves_are_disjoint_and_about_equal(folder: Path):
    held_out, training = evaluation_prompts(folder), training_prompts(folder)
    assert not {prompt for prompt, _ in training} & set(held_out)
    assert 60 <= len(held_out) <= 100, "of all four classes"
    assert {category for _, category in training} == set(CATEGORIES.values())
    assert len(training) + sum("chatbox" not in prompt for prompt in held_out) == 120


def test_the_half_is_fixed_and_depends_on_the_words_only():
    assert [is_held_out(f"prompt {n}") for n in range(8)] == [True, True, False, False, True, True, True, False]
    assert all(is_held_out(f"Prompt  {n} ") == is_held_out(f"prompt {n}") for n in range(20))


def test_another_folder_is_refused(tmp_path: Path, folder: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"malicious_uses\.jsonl"):
        training_prompts(tmp_path / "empty")
    write_jsonl(folder / "malicious_uses.jsonl", [{"text": "x"}])
    with pytest.raises(DataError, match="prompt"):
        evaluation_prompts(folder)
