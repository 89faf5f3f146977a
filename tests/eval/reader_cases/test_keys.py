from qianwen.eval.reader_cases.keys import TEMPLATES, WITHOUT, cases


def test_there_are_500_cases_and_some_have_no_answer() -> None:
    made = list(cases())
    assert len(made) >= 500 and {case.kind for case in made} == set(TEMPLATES)
    assert {case.kind for case in made if not case.answer} == set(WITHOUT)
    assert all(case.answer in case.reply for case in made if case.kind in ("ordinary", "negation", "corrected"))
