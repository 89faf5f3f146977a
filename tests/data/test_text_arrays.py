"""Texts as arrays say the same as strings do."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.data.text_arrays import Texts, mixed

SAMPLES = [
    "The cat, the CAT!",
    "",
    "天气好 hello世界",
    "สวัสดี",
    "a\n\n b \n",
    "１２ ٣",
    "한국어 텍스트",
    "🙂",
    "don't stop",
]


def words_of(texts: Texts) -> list[list[str]]:
    joined = "\n".join(texts.texts) + "\n"
    spans = zip(texts.word_start.tolist(), texts.word_end.tolist(), texts.word_document.tolist(), strict=True)
    found: list[list[str]] = [[] for _ in texts.texts]
    for start, end, document in spans:
        found[document].append(joined[start:end])
    return found


def test_words_are_runs_of_letters_or_one_unspaced_character() -> None:
    assert words_of(Texts(SAMPLES)) == [
        ["The", "cat", "the", "CAT"], [], ["天", "气", "好", "hello", "世", "界"], list("สวัสดี"), ["a", "b"],
        ["１２", "٣"], ["한국어", "텍스트"], [], ["don", "t", "stop"],
    ]  # fmt: skip


def test_hashes_are_blind_to_case_width_and_digits_of_other_scripts() -> None:
    texts = Texts(["Cat cAT", "12 １２ ١٢", "é É", "cat act"])
    first = texts.first_word
    assert len(set(texts.word_hash[first[0] : first[1]].tolist())) == 1
    assert len(set(texts.word_hash[first[1] : first[2]].tolist())) == 1
    assert len(set(texts.word_hash[first[2] : first[3]].tolist())) == 1
    assert texts.word_hash[first[0]] == texts.word_hash[first[3]] != texts.word_hash[first[3] + 1]


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=6))
def test_a_text_has_the_same_words_lines_and_runs_wherever_it_stands(texts: list[str]) -> None:
    together = Texts(texts)
    bounds = np.concatenate([[0], np.cumsum(together.num_lines)])
    grams, begin = together.ngrams(3, keep_short=True)
    for number, text in enumerate(texts):
        alone = Texts([text])
        assert (alone.word_hash == together.word_hash[together.word_document == number]).all()
        assert (alone.line_hash == together.line_hash[bounds[number] : bounds[number + 1]]).all()
        assert (alone.ngrams(3, keep_short=True)[0] == grams[together.word_document[begin] == number]).all()
        assert alone.word_keys()[0] == together.word_keys()[number]


@given(st.text(st.sampled_from("ab \n\t"), max_size=40))
def test_lines_are_those_of_the_string(text: str) -> None:
    texts = Texts([text])
    lines = [line.strip() for line in re.split("\n", text) if line.strip()]
    assert [text[a:b] for a, b in zip(texts.line_start, texts.line_end, strict=True)] == lines
    same = [[a == b for a in lines] for b in lines]
    assert (texts.line_hash[:, None] == texts.line_hash[None, :]).tolist() == same


@pytest.mark.parametrize("size", [1, 2, 5])
def test_runs_of_words_stay_inside_their_document(size: int) -> None:
    texts = Texts(["a b c d e f", "a b", "", "c d e f g"])
    grams, begin = texts.ngrams(size)
    assert len(grams) == sum(max(count - size + 1, 0) for count in (6, 2, 0, 5))
    whole, start = texts.ngrams(size, keep_short=True)
    assert len(whole) == sum(max(count - size + 1, min(count, 1)) for count in (6, 2, 0, 5))
    assert set(begin) <= set(start)


def test_sums_over_documents_and_mixing() -> None:
    texts = Texts(["ab", "", "c d"])
    assert texts.per_document(texts.kinds > 0).tolist() == [2, 0, 2]
    assert len(np.unique(mixed(np.arange(1000, dtype=np.uint64)))) == 1000
    assert (
        len(Texts([])) == 0 and len(Texts([]).word_start) == 0 and len(Texts([""]).ngrams(5, keep_short=True)[0]) == 0
    )
