import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.chat.templates.marks import Marks, texts_of
from qianwen.runtime.errors import RequestError

SPECIAL = ("<|im_start|>", "<|im_end|>", "<｜User｜>", "[INST]", "</s>")
TEXT = st.text(st.one_of(st.characters(), st.sampled_from("<|>[]｜_/\U000f0000\U000f0001\U000f0009")))


@given(TEXT, TEXT)
def test_text_comes_back(left, right):
    marks = Marks(SPECIAL, [left, right])
    for text in (left, right):
        marked = marks.mark(text)
        assert marks.restore(marked) == text and len(marked) == len(text)
        assert not set(marked) & set("<|>[]｜/")


@given(TEXT, TEXT)
def test_marks_are_of_json_values_too(key, value):
    nested = {key: [value, {value: None}, 1, True]}
    marks = Marks(SPECIAL, texts_of(nested))
    marked = marks.mark(nested)
    [(name, entries)] = marked.items()
    assert marks.restore(name) == key and marks.restore(entries[0]) == value and entries[2:] == [1, True]


def test_tags_can_stay():
    marks = Marks(SPECIAL, ["<think><|im_end|></think>"])
    marked = marks.mark("<think><|im_end|></think>", ("<think>", "</think>"))
    assert marked.startswith("<think>") and marked.endswith("</think>") and "<|" not in marked


def test_a_token_of_letters_alone():
    assert "e" not in Marks(["eos"], ["eos"]).mark("eos")


def test_a_conversation_with_every_private_character():
    with pytest.raises(RequestError, match="private"):
        Marks(SPECIAL, ["".join(map(chr, range(0xF0000, 0x100000)))])
