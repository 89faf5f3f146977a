"""Rows as cards: counts of all, a limit for each verdict, every kind of answer."""

import pytest

from qianwen.eval.example_cards import MAX_TEXT_LEN, PER_VERDICT, example_cards

from .conftest import row


def test_labels_count_all_rows_and_cards_are_limited_for_each_verdict() -> None:
    rows = [row(i, i % 3 == 0) for i in range(300)] + [row(300, None)]
    labels, cards = example_cards(rows)
    assert labels == {"wrong": "wrong (200)", "right": "right (100)", "error": "error (1)"}
    kinds = [card.kind for card in cards]
    assert [kinds.count(kind) for kind in labels] == [PER_VERDICT, PER_VERDICT, 1]
    assert cards[0].title == "#0 · right · question 0"


@pytest.mark.parametrize(
    ("answer", "label", "text"),
    [
        ({"text": "the answer"}, "answer", "the answer"),
        ({"text": "one", "further": [{"text": "two"}]}, "answer 2", "two"),
        ({"choice_logprobs": [-1.0, -0.25]}, "log-probability of each choice", "-1.000  -0.250"),
        ({"logprob": -3.5}, "log-probability", "-3.50 nats"),
        ({"tool_calls": [{"name": "f", "arguments": "{}"}]}, "calls of functions", '"name": "f"'),
        ({"conversation": [{"role": "user", "content": "hello"}]}, "conversation", "user: hello"),
        ({"conversation": [{"role": "assistant", "content": None}]}, "conversation", "assistant: "),
    ],
)
def test_every_kind_of_answer_is_there(answer: dict, label: str, text: str) -> None:
    _, (card,) = example_cards([row(0, 1, answer=answer)])
    assert text in dict(card.parts)[label]


def test_a_card_has_the_question_what_was_read_and_the_whole_prompt() -> None:
    rows = [row(i, 0, prompt=[f"Q: a\nA: b\n\nQ: {i}\nA:"]) for i in range(2)]
    rows[0]["score"] |= {"extracted": None, "verdict": "unparsed"}
    labels, cards = example_cards(rows)
    parts = dict(cards[0].parts)
    assert parts["question"] == "Q: 0\nA:" and parts["the whole prompt"].startswith("Q: a") and "unparsed" in labels
    assert parts["extracted"] == "nothing" and parts["expected answer and other facts"] == "target: B"
    assert parts["verdict"].startswith("unparsed\nacc: 0 / 1")


def test_a_very_long_text_says_how_much_is_left_out() -> None:
    _, (card,) = example_cards([row(0, 1, answer={"text": "x" * (MAX_TEXT_LEN + 1234)})])
    assert "[1,234 characters are left out" in dict(card.parts)["answer"]


def test_a_document_without_a_prompt_is_named_by_its_facts() -> None:
    _, (card,) = example_cards([row(3, 0.5, prompt=[], facts={"bytes": 7, "corpus": "news"})])
    assert card.title == "#3 · no right or wrong · bytes 7, corpus news"
