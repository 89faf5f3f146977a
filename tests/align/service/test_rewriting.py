import pytest

from qianwen.align.service.rewriting import keeps_facts, rewritten
from qianwen.align.service.search import SearchDialogues, plain_pages
from qianwen.align.service.tool_calls import CallDialogues
from qianwen.chat.model import Delta

OLD = 'Parcel PX44 is in transit, last seen at "the Leeds depot". It is expected in 3 days.'
VALUES = ["PX44", "in transit", "the Leeds depot"]


@pytest.mark.parametrize(
    "new",
    [
        'PX44 is still in transit; it was last seen at "the Leeds depot" and should be here in 3 days.',
        'Your parcel PX44 is in transit ("the Leeds depot"). Expect it within 3 days.',
    ],
)
def test_other_words_with_the_same_facts(new):
    assert keeps_facts(OLD, new, VALUES, "en")


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        'PX44 is in transit at "the Leeds depot" and comes in 4 days.',
        'PX45 is in transit at "the Leeds depot" and comes in 3 days.',
        'PX44 was delivered at "the Leeds depot" and came after 3 days.',
        "PX44 is in transit and is expected here in about 3 days from the place it is at.",
        'Sure, here it is: PX44 is in transit at "the Leeds depot", expected in 3 days.',
        '包裹 PX44 in transit，在 "the Leeds depot"，还需要 3 天才能送到，请您耐心等待一下。',
        "PX44 in transit 3",
        'PX44 is in transit at "the Leeds depot" today and is expected in 3 days.',
        'PX44 is in transit.\n\nIt is at "the Leeds depot" and expected in 3 days [1].',
    ],
)
def test_a_text_that_changes_a_fact_is_not_used(new):
    assert not keeps_facts(OLD, new, VALUES, "en")


class Echo:
    """Repeats the last line of the prompt with two more words before it."""

    def chat(self, messages, functions=(), **options):
        yield Delta("Well then: " + messages[-1].text.rpartition("\n")[2], finish_reason="stop")


def test_question_and_answer_change_and_calls_and_results_stay():
    row = CallDialogues("en", seed=0).row("react")
    new = rewritten(Echo(), row, seed=0)
    assert new["rewritten"] == ["question", "answer"] and new["messages"][1:-1] == row["messages"][1:-1]
    assert new["messages"][0]["content"] == "Well then: " + row["messages"][0]["content"]
    assert row["messages"][0]["content"][:4] != "Well", "the row itself is not changed"


def test_answers_that_explain_are_left_as_they_are():
    row = SearchDialogues("en", plain_pages("en"), seed=0).row("search, two sources")
    assert rewritten(Echo(), row, seed=0)["rewritten"] == ["question"]
