"""Bytes per token, by language and vocabulary."""

from pathlib import Path

import pytest

from qianwen.eval.metrics import Share
from qianwen.eval.task import Answer, Scored
from qianwen.eval.tasks.compression import Compression
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import write_jsonl
from qianwen.tokenizer.tokenizer import Tokenizer

LINES = {"fra": ["Où est le chat ?", "Il est là."], "tha": ["แมวอยู่ที่ไหน"], "zho-CN": ["猫在哪里？"]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "ntrex128.jsonl", [{"lang": lang, "lines": lines} for lang, lines in LINES.items()])
    return tmp_path


def answers(task: Compression, tokenizer: Tokenizer) -> list[Scored]:
    rows = []
    for example in task.examples():
        answer = Answer(num_tokens=sum(len(tokenizer.encode(text)) for text in example.texts))
        rows.append(Scored(example, answer, task.score(example, answer)))
    return rows


def test_bytes_over_tokens_by_language(data: Path, llm) -> None:
    task = Compression(data)
    metrics = task.estimates(answers(task, llm.tokenizer))  # a vocabulary of bytes
    assert set(metrics) == {"bytes_per_token", "bytes_per_token/zh", "bytes_per_token/th", "bytes_per_token/fr"}
    assert {metric.value for metric in metrics.values()} == {1.0}


def test_each_line_is_encoded_by_itself(data: Path) -> None:
    french = next(each for each in Compression(data).examples() if each.facts["language"] == "fr")
    assert french.texts == tuple(LINES["fra"])
    assert french.facts["bytes"] == sum(len(line.encode()) for line in LINES["fra"])


def test_other_vocabularies_stand_beside(data: Path, llm) -> None:
    llm.tokenizer.save(data / "vocabularies" / "bytes")
    task = Compression(data)
    example = next(iter(task.examples()))
    assert example.facts["others"] == {"bytes": example.facts["bytes"]}
    shares = task.score(example, Answer(num_tokens=3)).shares
    size = example.facts["bytes"]
    assert shares["bytes_per_token/zh"] == Share(size, 3) and shares["bytes_per_token/zh/bytes"] == Share(size, size)
    assert task.settings()["vocabularies"] == ["bytes"]


def test_a_folder_without_ntrex_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ntrex"):
        list(Compression(tmp_path).examples())
