from qianwen.eval.reader_cases.boxes import FORMULAS, TEMPLATES, cases


def test_there_are_500_different_cases_of_every_kind() -> None:
    made = list(cases())
    assert len({case.reply for case in made}) >= 500
    assert {case.kind for case in made} == set(TEMPLATES)


def test_every_formula_has_balanced_braces() -> None:
    for formula in FORMULAS:
        assert formula.replace("\\{", "").count("{") == formula.replace("\\}", "").count("}")
