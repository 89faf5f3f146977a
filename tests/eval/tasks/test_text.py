"""Bits per byte, and what compressors and a unigram spend."""

import lzma
import math
from pathlib import Path

import numpy as np
import pytest

from qianwen.engine.llm import LLM
from qianwen.eval.runner import run_task
from qianwen.eval.task import Answer
from qianwen.eval.tasks.text import Text, compressors, unigram
from qianwen.runtime.files import write_jsonl


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [{"text": "some words", "source": "one:1"}, {"text": "数字", "source": "two:1"}]
    write_jsonl(tmp_path / "held_out.jsonl", rows)
    return tmp_path


def test_bits_are_over_bytes_not_characters(texts: Path) -> None:
    task = Text(str(texts))
    first, second = task.examples()
    shares = task.score(second, Answer(logprob=-6 * math.log(2))).shares
    assert shares == {"bits_per_byte": (pytest.approx(6), 6), "bits_per_byte/two": (pytest.approx(6), 6)}
    assert first.facts == {"bytes": 10, "corpus": "one"}


def test_a_random_model_spends_about_eight_bits(texts: Path, llm: LLM) -> None:
    metrics = run_task(Text(str(texts)), llm).metrics
    assert set(metrics) == {"bits_per_byte", "bits_per_byte/one", "bits_per_byte/two"}
    assert metrics["bits_per_byte"].value > 8


def test_compressors_see_the_file_alone(tmp_path: Path) -> None:
    data = b"abcd" * 1000
    (tmp_path / "f").write_bytes(data)
    found = compressors(tmp_path / "f")
    assert found["xz -9"] == 8 * len(lzma.compress(data, preset=9)) / 4000
    assert 0 < found["gzip -9"] < 0.2


def test_unigram_by_hand() -> None:
    learned = [np.array([[0, 0, 0], [1, 2, 2]])]  # with one added to each of four: 4, 2, 3, 1 of 10
    bits = unigram(learned, [[0, 3]], vocab_size=4, num_bytes=2)
    assert bits == pytest.approx((math.log2(10 / 4) + math.log2(10 / 1)) / 2)
