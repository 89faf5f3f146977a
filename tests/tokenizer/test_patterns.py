"""A grouped pattern cuts every text where the pattern itself does, in each of the three engines that run it."""

import pytest
import regex
import rustbpe
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.tokenizer.patterns import GPT2_DIGITS_PATTERN, GPT2_PATTERN, QWEN_PATTERN, grouped
from qianwen.tokenizer.tokenizer import Tokenizer

PATTERNS = (QWEN_PATTERN, GPT2_PATTERN, GPT2_DIGITS_PATTERN)
PARTS = (
    "  ",
    "\t",
    "\r\n",
    "\n\n",
    "\u3000",
    "\x1c",
    "'s",
    "'LL",
    "ſ",
    "a",
    "的",
    "é",
    "\u0301",
    "7",
    "²",
    "--",
    "😀",
    "\x00",
)
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=4))).map("".join)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_all_but_the_blanks_are_in_the_group(pattern: str) -> None:
    group, blanks = grouped(pattern).rsplit(r")|\s+(?!", 1)
    assert group.startswith("(?:") and group.removeprefix("(?:") + r"|\s+(?!" + blanks == pattern


@pytest.mark.parametrize("pattern", [r"\w+|\s+", r"\s+(?!\S)|\s+", "", r"(a|\s+(?!\S)|\s+)"])
def test_a_pattern_of_another_form_stays(pattern: str) -> None:
    assert grouped(pattern) == pattern


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_the_pieces_are_the_same(pattern: str, text: str) -> None:
    assert regex.findall(grouped(pattern), text) == regex.findall(pattern, text)


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4))
def test_tiktoken_and_rustbpe_give_the_same(small: Tokenizer, texts: list[str]) -> None:
    ranks = dict(small.vocabulary.ranks)
    plain = tiktoken.Encoding("plain", pat_str=QWEN_PATTERN, mergeable_ranks=ranks, special_tokens={})
    other = tiktoken.Encoding("grouped", pat_str=grouped(QWEN_PATTERN), mergeable_ranks=ranks, special_tokens={})
    assert [*map(other.encode_ordinary, texts)] == [*map(plain.encode_ordinary, texts)]
    learned = []
    for pattern in (QWEN_PATTERN, grouped(QWEN_PATTERN)):
        learner = rustbpe.Tokenizer()  # pyrefly: ignore[missing-attribute]
        learner.train_from_iterator(iter(texts), 300, pattern=pattern)
        learned.append(learner.get_mergeable_ranks())
    assert learned[0] == learned[1]
