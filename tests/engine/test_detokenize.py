from hypothesis import given
from hypothesis import strategies as st

from qianwen.engine.detokenize import Detokenizer, StopStrings


def run(tokenizer, ids, stop=()):
    detokenizer = Detokenizer(tokenizer, StopStrings(stop))
    pieces = []
    for token in ids:
        pieces.append(detokenizer.add(token))
        if detokenizer.is_stopped:
            break
    return [*pieces, detokenizer.finish()]


def test_an_incomplete_character_is_held_back(tokenizer):
    ids = tokenizer.encode("a好b")
    assert run(tokenizer, ids) == ["a", "", "", "好", "b", ""]
    assert run(tokenizer, ids[:3]) == ["a", "", "", "\ufffd"]


def test_control_tokens_have_no_text_but_tags_do(tokenizer):
    ids = [*tokenizer.encode("a"), tokenizer.im_end_id, *tokenizer.encode("b")]
    assert "".join(run(tokenizer, ids)) == "ab"


def test_a_possible_stop_string_is_held_back(tokenizer):
    pieces = run(tokenizer, tokenizer.encode("one ENx END two"), ["END"])
    assert pieces == ["o", "n", "e", " ", "", "", "ENx", " ", "", "", "", ""]
    assert run(tokenizer, tokenizer.encode("an EN"), ["END"])[-1] == "EN"


@given(st.text("aAb好\n", max_size=20), st.lists(st.text("aAb好\n", min_size=1, max_size=4), max_size=4))
def test_pieces_are_the_text_up_to_the_first_stop(tokenizer, text, stop):
    pieces = run(tokenizer, tokenizer.encode(text), stop)
    want = text
    for end in range(len(text) + 1):  # the first moment any stop string is complete
        found = [at for s in stop if (at := text[:end].find(s)) >= 0]
        if found:
            want = text[: min(found)]
            break
    assert "".join(pieces) == want
