from collections import Counter

import pytest

from qianwen.eval.reader_cases.choices import CHINESE_TEMPLATES, ENGLISH_TEMPLATES, chinese, english


@pytest.mark.parametrize(("made", "templates"), [(english, ENGLISH_TEMPLATES), (chinese, CHINESE_TEMPLATES)])
def test_there_are_500_different_cases_of_every_kind(made, templates) -> None:
    cases = list(made())
    assert len({(case.reply, case.answer) for case in cases}) >= 500
    assert {case.kind for case in cases} == set(templates)


def test_every_letter_is_right_equally_often() -> None:
    counts = Counter(case.answer for case in english() if case.answer)
    assert set(counts) == set("ABCD") and len(set(counts.values())) == 1
