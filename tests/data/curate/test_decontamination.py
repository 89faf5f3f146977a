"""Tests planted in documents are found, whatever was done to their spelling (R18)."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from qianwen.data.curate.decontamination import Benchmarks, benchmark_texts, contaminated, runs_in, texts_with
from qianwen.data.text_arrays import Texts
from qianwen.runtime.errors import DataError

draw = random.Random(0)
VOCABULARY = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 8))) for _ in range(5000)]
HAN = [chr(code) for code in range(0x4E00, 0x5600)]


def question(number: int) -> str:
    if number % 4 == 0:
        return "".join(draw.choices(HAN, k=24)) + f"，{number}个？"
    return " ".join(draw.choices(VOCABULARY, k=draw.randint(14, 40))) + f" {number} apples cost 375 yuan?"


QUESTIONS = [question(number) for number in range(200)]
BENCHMARKS = Benchmarks.from_texts(("test", f"test:{number}", text) for number, text in enumerate(QUESTIONS))
SPELLINGS = {
    "verbatim": str,
    "case": str.upper,
    "punctuation": lambda text: text.replace(" ", " -- ").replace("?", "!!"),
    "digits": lambda text: text.translate({48 + digit: 0x0660 + digit for digit in range(10)}),
    "width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "lines": lambda text: text.replace(" ", "\n"),
}


def noise(words: int) -> str:
    return " ".join(draw.choices(VOCABULARY, k=words)) + "".join(draw.choices(HAN, k=words))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_canaries_are_found(spelling: str) -> None:
    documents = [f"{noise(80)} {SPELLINGS[spelling](text)} {noise(80)}" for text in QUESTIONS]
    hit = contaminated(Texts(documents), BENCHMARKS)
    assert (hit == np.arange(200)).mean() >= 0.98


def test_documents_without_them_pass() -> None:
    assert (contaminated(Texts([noise(60) for _ in range(10_000)]), BENCHMARKS) == -1).all()


def test_the_form_of_questions_is_no_contamination_and_short_texts_are_not_looked_for() -> None:
    form = "Which of the following statements about the subject is true according to the text above"
    built = Benchmarks.from_texts(("a", f"a:{n}", f"{form} {noise(20)}") for n in range(3))
    assert contaminated(Texts([f"x {form} y"]), built).tolist() == [-1]
    short = Benchmarks.from_texts(
        [("a", "a:1", "the answer is four"), ("a", "a:2", "one two three four five six seven eight nine")]
    )
    assert short.too_short == 1
    found = contaminated(Texts(["the answer is four", "so: One, two; three four five six seven eight nine ten"]), short)
    assert found.tolist() == [-1, 1]


def test_the_texts_that_a_corpus_has_are_found_also_twins() -> None:
    long, short = "one two three four five six seven eight nine ten eleven twelve thirteen end", "un deux trois quatre "
    texts = [long, noise(30), long.upper(), short * 2 + "fin", f"{short * 2}fin {noise(20)}"]
    built = Benchmarks.from_texts(("a", str(number), text) for number, text in enumerate(texts))
    corpus = Texts([f"{noise(9)} {long} {noise(9)}", f"{noise(9)} {short * 2}fin {noise(9)}"])
    assert texts_with(Texts(texts), runs_in(corpus, built)) == {0, 2, 3}, "the last has the short text as a part only"
    assert texts_with(Texts(texts), runs_in(Texts([noise(50)]), built)) == set()
    assert texts_with(Texts([]), {13: set()}) == set()


def test_what_is_saved_finds_the_same(tmp_path: Path) -> None:
    BENCHMARKS.save(tmp_path)
    documents = Texts(QUESTIONS[:50] + [noise(30)])
    assert (contaminated(documents, Benchmarks.load(tmp_path)) == contaminated(documents, BENCHMARKS)).all()
    assert contaminated(documents, Benchmarks.from_texts([])).tolist() == [-1] * 51


def test_benchmark_files(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(json.dumps({"question": "q one", "answer": "a one", "id": 3}) + "\n")
    (tmp_path / "b.csv").write_text('"What, then?",A,B\n', encoding="utf-8")
    (tmp_path / "c.txt").write_text("line one\nline two\n", encoding="utf-8")
    found = [(name, text.strip()) for _, name, text in benchmark_texts([str(tmp_path)])]
    assert found == [
        ("a.jsonl.gz:1", "q one"), ("a.jsonl.gz:1", "a one"), ("b.csv:1", "What, then? A B"), ("c.txt:1", "line one"),
        ("c.txt:2", "line two"),
    ]  # fmt: skip
    (tmp_path / "d.bin").write_bytes(b"x")
    with pytest.raises(DataError, match="d.bin: benchmarks are read from"):
        list(benchmark_texts([str(tmp_path / "d.bin")]))
