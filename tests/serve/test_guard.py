"""Guards: a function by its name, or the safety classifier in a folder."""

import asyncio

import numpy as np
import pytest

from qianwen.chat.model import Usage
from qianwen.data.filters.vote import train
from qianwen.engine.llm_engine import Output
from qianwen.engine.sampling import TokenLogprob
from qianwen.runtime.errors import ConfigError
from qianwen.serve.guard import PIECE_LEN, GuardedText, load_guard

PROSE = ["the", "river", "rises", "in", "hills", "and", "flows", "through", "several", "towns", "before", "it", "meets"]
CHATTER = ["lol", "omg", "buy", "now", "cheap", "click", "here", "win", "free", "follow", "me", "haha", "ok"]


def judge(text: str) -> str | None:
    return "too loud" if "!" in text else None


def test_load_a_function(monkeypatch):
    monkeypatch.setattr("qianwen.serve.guard.judge", judge, raising=False)
    assert load_guard("qianwen.serve.guard:judge")("hush") is None
    for wrong in ("qianwen.serve.guard:nothing", "no_such_module:judge", "judge", "qianwen.serve.guard:PIECE_LEN"):
        with pytest.raises(ConfigError):
            load_guard(wrong)


def test_load_the_safety_classifier_of_a_folder(tmp_path):
    generator = np.random.default_rng(0)

    def written(words: list[str], end: str) -> str:
        return " ".join(generator.choice(words, 30)) + end

    rows = []
    for number in range(60):
        texts = {
            "good": written(PROSE, f" {number}."),
            "low": written(CHATTER, f" {number}"),
            "unfit": written(PROSE, f" {number} rotten villain"),
        }
        for label, text in texts.items():
            rows.append({"text": text, "label": label, "lang": "en", "source": f"{label} {number % 4}"})
    train(rows).save(tmp_path / "filter")
    guard = load_guard(str(tmp_path / "filter"))
    assert guard("the river flows through the towns") is None
    assert "safety score" in guard("the river flows through the rotten villain")
    with pytest.raises(ConfigError, match="train-filter"):
        load_guard(str(tmp_path))


def test_text_and_log_probabilities_are_held_back_until_the_guard_has_checked_them():
    async def feed(guarded: GuardedText, *pieces: str) -> list[Output]:
        outputs = []
        for index, text in enumerate(pieces):
            reason = "stop" if index == len(pieces) - 1 else None
            entry = TokenLogprob(index, -1.0)
            outputs.append(await guarded.feed(Output("r", 0, text, (index,), Usage(1, 1), (entry,), reason)))
        return outputs

    allowed = asyncio.run(feed(GuardedText(judge), "a", "b" * PIECE_LEN, "c"))
    assert [output.text for output in allowed] == ["", "a" + "b" * PIECE_LEN, "c"]
    assert [len(output.logprobs) for output in allowed] == [0, 2, 1] and allowed[-1].finish_reason == "stop"
    refused = asyncio.run(feed(GuardedText(judge), "a" * PIECE_LEN, "!", "quiet again"))
    assert [output.text for output in refused] == ["a" * PIECE_LEN, "", ""]
    assert not refused[-1].logprobs and refused[-1].finish_reason == "content_filter"
