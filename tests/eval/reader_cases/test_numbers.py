from qianwen.eval.reader_cases.numbers import TEMPLATES, cases, is_right


def test_there_are_500_different_cases_of_every_kind() -> None:
    made = list(cases())
    assert len({case.reply for case in made}) >= 500
    assert {case.kind for case in made} == set(TEMPLATES)


def test_a_number_may_be_written_in_several_ways_and_no_answer_is_empty() -> None:
    assert is_right("1234.0", "1234") and not is_right("1235", "1234")
    assert is_right("", "") and not is_right("3", "")
