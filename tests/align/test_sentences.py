import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.align.sentences import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It costs 3.50 at Mr. Smith's shop.", ["It costs 3.50 at Mr. Smith's shop."]),
        ("先洗手。再吃饭！好吗？", ["先洗手。", "再吃饭！", "好吗？"]),
        ("Light is scattered [2]. It is blue. [1]", ["Light is scattered [2].", "It is blue. [1]"]),
        ('He said "Go." She went.', ['He said "Go."', "She went."]),
        ("no mark at the end", ["no mark at the end"]),
        ("- one\n- two\n\n* * *", ["- one", "- two"]),
        ("Wait... what?", ["Wait...", "what?"]),
        ("", []),
        ("…。!", []),
    ],
)
def test_sentences(text, expected):
    assert sentences(text) == expected


@given(st.text())
def test_no_letter_is_lost(text):
    joined = "".join("".join(sentences(text)).split())
    assert sorted(c for c in joined if c.isalnum()) == sorted(c for c in text if c.isalnum())
