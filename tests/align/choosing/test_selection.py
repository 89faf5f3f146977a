from hypothesis import given
from hypothesis import strategies as st

from qianwen.align.choosing.selection import Candidate, cluster_candidates, select, tag_candidates
from qianwen.align.records import Dialogue
from qianwen.chat.messages import Message


def row(text, tags):
    return Candidate(text, frozenset(tags), (len(tags),))


def test_the_most_complex_row_comes_first_and_the_next_must_add_a_tag():
    rows = [row("one", "a"), row("two words", "ab"), row("three more here", "c"), row("four is another", "abd")]
    assert select(rows, 2).chosen == [2, 3]  # abd covers ab and a
    result = select(rows, 3)
    assert result.chosen == [1, 2, 3] and result.rounds == 2 and result.covered == result.tags == 4
    assert result.beyond_budget == 1


def test_near_duplicates_and_rows_without_tags_are_left_out_and_counted():
    rows = [
        row("How many apples are left in the red box?", "ab"), row("how many apples are left in the box?", "cd"),
        row("杭州今天的天气怎么样？", "e"), row("no tag", ""),
    ]  # fmt: skip
    result = select(rows, 10)
    assert (len(result.chosen), result.near_duplicates, result.untagged, result.beyond_budget) == (2, 1, 1, 0)
    assert 2 in result.chosen and 3 not in result.chosen


@given(st.lists(st.frozensets(st.sampled_from("abcdef")), max_size=40), st.integers(0, 12), st.integers(0, 3))
def test_every_row_is_chosen_or_counted_once(tags, budget, seed):
    rows = [row(f"word{number}", each) for number, each in enumerate(tags)]
    result = select(rows, budget, seed=seed)
    assert result == select(rows, budget, seed=seed)
    assert len(result.chosen) == len(set(result.chosen)) <= budget
    assert len(result.chosen) + result.near_duplicates + result.untagged + result.beyond_budget == len(rows)
    assert len(result.chosen) == min(budget, sum(map(bool, tags)))


def test_a_small_budget_covers_more_tags_than_the_first_rows():
    rows = [row(f"common{n}", "a") for n in range(50)] + [row(f"rare{n}", [f"t{n}"]) for n in range(10)]
    assert select(rows, 11).covered == 11


def test_of_a_cluster_the_row_with_most_turns_is_chosen():
    question, answer = Message("user", "q"), Message("assistant", "a long answer")
    dialogues = [Dialogue([question, answer]), Dialogue([question, answer] * 2), Dialogue([Message("user", "写诗")])]
    rows = cluster_candidates(dialogues, [7, 7, 8])
    assert [each.tags for each in rows] == [{"7"}, {"7"}, {"8"}] and rows[1].complexity > rows[0].complexity
    assert select(rows, 2).chosen == [1, 2]
    assert [each.complexity for each in tag_candidates(dialogues[:2], [frozenset("ab"), frozenset()])] == [(2,), (0,)]
