"""The same questions before and after: from all parts of the data, kept by a continued run, never a reason to fail."""

import pytest

from qianwen.align.before_after import (
    FILE,
    MAX_ANSWER,
    NUM_QUESTIONS,
    answer_after,
    answer_before,
    comparison,
    read_rows,
)
from qianwen.align.records import read_record
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

SPECIALS = {"<|endoftext|>": 256, "<|im_start|>": 257, "<|im_end|>": 258}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(Vocabulary({bytes([value]): value for value in range(256)}, SPECIALS, r"\p{L}+|[^\p{L}]"))


@pytest.fixture(scope="module")
def model() -> Qwen:
    shape = QwenConfig(
        vocab_size=272, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=512,
    )  # fmt: skip
    return Qwen(shape).init_weights(seed=1).eval()


def dialogue(question: str, answer: str = "yes", system: str = ""):
    first = [{"role": "system", "content": system}] if system else []
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return read_record({"messages": [*first, *turns, *turns]})


def test_questions_come_from_all_parts_of_the_data(model, tokenizer, tmp_path):
    answer_before(model, tokenizer, [dialogue(f"question {n}") for n in range(100)], tmp_path)
    numbers = [int(row["question"].split()[1]) for row in read_rows(tmp_path)]
    assert len(numbers) == NUM_QUESTIONS and numbers[0] < 25 and numbers[-1] >= 50 and numbers == sorted(numbers)
    assert {row["expected"] for row in read_rows(tmp_path)} == {"yes"}


def test_after_adds_the_answers_of_the_trained_model(model, tokenizer, tmp_path):
    dialogues = [dialogue(f"q{n}", system="Be brief.") for n in range(3)]
    answer_before(model, tokenizer, dialogues, tmp_path)
    rows = answer_after(model, tokenizer, dialogues, tmp_path)
    assert len(rows) == 3 and all(row["before"] == row["after"] for row in rows), "it was not trained"
    assert rows == read_rows(tmp_path) and comparison(rows).row_count == 3


def test_a_continued_run_keeps_its_first_answers(model, tokenizer, tmp_path):
    dialogues = [dialogue("q")]
    answer_before(model, tokenizer, dialogues, tmp_path)
    (tmp_path / FILE).write_text('[{"question": "q", "expected": "e", "before": "first"}]')
    answer_before(model, tokenizer, dialogues, tmp_path)
    assert answer_after(model, tokenizer, dialogues, tmp_path)[0]["before"] == "first"


@pytest.mark.parametrize("damaged", ["", "{", "[1]", "null", '{"question": 1}', "[[]]"])
def test_a_damaged_table_ends_no_run(model, tokenizer, tmp_path, damaged):
    (tmp_path / FILE).write_text(damaged)
    assert answer_after(model, tokenizer, [dialogue("q")], tmp_path) == []


def test_questions_that_do_not_fit_are_left_out(model, tokenizer, tmp_path):
    room = model.config.max_position_embeddings - MAX_ANSWER
    answer_before(model, tokenizer, [dialogue("x" * room), dialogue("short")], tmp_path)
    assert [row["question"] for row in read_rows(tmp_path)] == ["short"]


def test_dialogues_that_do_not_begin_with_a_question(model, tokenizer, tmp_path):
    only = read_record({"messages": [{"role": "assistant", "content": "hello"}]})
    answer_before(model, tokenizer, [only], tmp_path)
    assert read_rows(tmp_path) == [] and answer_after(model, tokenizer, [only], tmp_path) == []
