"""What is calibrated on: dialogues and documents, of every kind as many, every other from somewhere within."""

import random
from collections import Counter
from pathlib import Path

import pytest

from qianwen.align.records import Dialogue
from qianwen.cli.calibration_data import calibration_texts, documentation, draw, kind_of, texts_of
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import write_jsonl
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(Vocabulary({bytes([byte]): byte for byte in range(256)}, qwen_special_tokens(256)))


def dialogues(path: Path, answers: list[str]) -> Path:
    rows = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}] for answer in answers]
    write_jsonl(path, [{"messages": row} for row in rows])
    return path


def corpus(path: Path, **counts: int) -> Path:
    """Documents in the order of their languages, as corpora lie."""
    rows = [
        {"text": f"{lang} {i}", "lang": lang, "kind": "book"} for lang, count in counts.items() for i in range(count)
    ]
    write_jsonl(path, rows)
    return path


def test_every_other_text_begins_within(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = dialogues(tmp_path / "dialogues.jsonl", ["abcdefghij" * n for n in (9, 1, 9, 3)])
    texts = calibration_texts([file], tokenizer, samples=4, seq_len=50)
    begins = [tokenizer.decode(text).startswith("<|im_start|>") for text in texts]
    assert begins == [True, False, True, False]
    assert all(len(text) >= 20 for text in texts)  # what is left of a long one is as long as what is read
    assert texts == calibration_texts([file], tokenizer, samples=4, seq_len=50)


def test_languages_and_kinds_take_turns(
    tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        corpus(tmp_path / "corpus.jsonl.zst", en=200, zh=20, fr=1),
        dialogues(tmp_path / "chat.jsonl", ["yes"] * 50),
    ]
    texts = calibration_texts(files, tokenizer, samples=31, seq_len=64)
    assert len(texts) == 31
    said = " ".join(capsys.readouterr().out.split())
    assert "calibrating on 31 texts" in said and "10 dialogues, 10 en book, 10 zh book, 1 fr book" in said
    begins = Counter(tokenizer.decode(text).startswith("<|im_start|>") for text in texts)
    assert 0 < begins[True] < 10  # of dialogues, too, some are read from within
    other = calibration_texts(files, tokenizer, samples=31, seq_len=64, seed=1)
    assert texts != other


def test_each_is_drawn_as_often_as_any_other() -> None:
    found: Counter[int] = Counter()
    for seed in range(400):
        found.update(draw((("same", i) for i in range(40)), 10, random.Random(seed)))
    assert len(found) == 40 and all(60 <= count <= 145 for count in found.values())  # 100, six deviations either way


def test_what_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("Water boils at 100 °C.\n")
    (tmp_path / "list.json").write_text('[{"instruction": "2 + 2?", "output": "4", "text": "both"}]')
    (tmp_path / "empty").mkdir()
    assert [kind_of(text) for text in texts_of(tmp_path / "notes")] == ["docs"]
    assert [kind_of(text) for text in texts_of(tmp_path / "list.json")] == ["dialogues"]
    for name, complaint in (("empty", "contains no documents either"), ("absent", "no such file")):
        with pytest.raises(DataError, match=complaint):
            texts_of(tmp_path / name)
    (tmp_path / "nothing.jsonl").touch()
    with pytest.raises(DataError, match="nothing.jsonl contains no dialogue\nit contains no documents either"):
        texts_of(tmp_path / "nothing.jsonl")
    write_jsonl(tmp_path / "broken.jsonl", [{"messages": "no list"}])
    with pytest.raises(
        DataError,
        match='record 1: `messages` must be a list of turns; got "no list"\nit contains no documents',
    ):
        texts_of(tmp_path / "broken.jsonl")
    (tmp_path / "broken.json").write_text('[{"messages": "no list"}]')  # and no source code either
    with pytest.raises(
        DataError, match="broken.json: none of 1 record can be used:\n.*\nit contains no documents either"
    ):
        texts_of(tmp_path / "broken.json")


def test_python_itself_where_there_is_nothing_else(tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(next(documentation()), Dialogue)
    texts = calibration_texts([], tokenizer, samples=3, seq_len=64)
    assert len(texts) == 3 and "no --data" in capsys.readouterr().out
