"""Bits per byte, and what compressors and a unigram spend."""

import lzma
import math
from pathlib import Path

import numpy as np
import pytest

from qianwen.engine.llm import LLM
from qianwen.eval.runner import run_task
from qianwen.eval.task import Answer
from qianwen.eval.tasks.text import LINES, Ntrex, Text, compressors, unigram
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


def test_documents_with_a_language_count_for_it(tmp_path: Path) -> None:
    rows = [{"text": "chat", "source": "wiki:1", "lang": "fr"}, {"text": "cat", "source": "wiki:2"}]
    write_jsonl(tmp_path / "held_out.jsonl", rows)
    task = Text(tmp_path)
    metrics = [set(task.score(example, Answer(logprob=-1)).shares) for example in task.examples()]
    assert metrics[0] == {"bits_per_byte", "bits_per_byte/wiki", "bits_per_byte/lang:fr"}
    assert metrics[1] == {"bits_per_byte", "bits_per_byte/wiki"}


NEWS = {"eng": "cat", "spa": "gato", "fra": "chat", "jpn": "猫", "tha": "แมว", "arb": "قط", "por-BR": "gato"}


def write_ntrex(folder: Path, layout: str) -> Path:
    lines = {lang: [f"{word} {number}" for number in range(LINES + 5)] for lang, word in NEWS.items()}
    if layout == "records":
        write_jsonl(folder / "ntrex128_subset.jsonl.zst", [{"lang": k, "lines": v} for k, v in lines.items()])
        return folder
    home = folder / "NTREX-128" if layout == "published" else folder
    home.mkdir(exist_ok=True)
    for lang, texts in lines.items():
        side = "src" if lang == "eng" else "ref"
        (home / f"newstest2019-{side}.{lang}.txt").write_text("\r\n".join(texts) + "\r\n", "utf-8", newline="")
    return folder


@pytest.mark.parametrize("layout", ["records", "published", "inside"])
def test_news_in_many_languages_in_turns(tmp_path: Path, layout: str) -> None:
    examples = list(Ntrex(write_ntrex(tmp_path, layout)).examples())
    languages = [example.facts["language"] for example in examples]
    assert languages == ["en", "th", "ar", "ja", "es", "fr"] * 2  # a variant such as por-BR is not a language
    assert examples[1].continuation.split("\n") == [f"แมว {number}" for number in range(LINES)]
    assert [examples[0].facts["lines"], examples[-1].facts["lines"]] == [LINES, 5]
    assert examples[0].cluster == examples[5].cluster != examples[6].cluster


def test_bits_by_language_are_over_bytes_and_over_lines(tmp_path: Path) -> None:
    task = Ntrex(write_ntrex(tmp_path, "records"))
    thai = list(task.examples())[1]
    shares = task.score(thai, Answer(logprob=-100 * math.log(2))).shares
    assert shares["bits_per_byte/th"] == (pytest.approx(100), len(thai.continuation.encode()))
    assert shares["bits_per_line/th"] == (pytest.approx(100), LINES)
    assert set(shares) == {"bits_per_byte", "bits_per_byte/th", "bits_per_line/th"}


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
