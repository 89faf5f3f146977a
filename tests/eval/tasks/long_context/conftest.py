"""A vocabulary of bytes, so that a prompt has as many tokens as bytes, and a folder with short texts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from qianwen.engine.llm import LLM
from qianwen.eval.task import PromptModel, TaskOptions

WORDS = ("river", "market", "winter", "candle", "window", "garden", "bridge", "summer", "letter", "silver")


def sentence(number: int) -> str:
    first, second = WORDS[number % 10], WORDS[number // 10 % 10]
    name = "".join(chr(97 + number // 26**place % 26) for place in range(2)) * 3  # another word in each sentence
    return f"The {first} near house {number} has a {second} that nobody but {name} knows."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "haystack"
    folder.mkdir()
    (folder / "en.txt").write_text("\n\n".join(sentence(number) for number in range(400)), encoding="utf-8")
    (folder / "zh.txt").write_text("".join(f"第{n}天，河水很宽，路很长。\n" for n in range(800)), encoding="utf-8")
    return tmp_path


@pytest.fixture
def options(llm: LLM, data: Path) -> Callable[..., TaskOptions]:
    """Options of a task for a chat model, or for a base model, that reads 8,000 bytes."""

    def make(*, is_chat: bool = True, max_len: int = 8000, **changes: object) -> TaskOptions:
        model = PromptModel(llm.tokenizer, is_chat, max_len)
        return replace(TaskOptions(data=data, model=lambda: model), **changes)

    return make
