import ast

from qianwen.eval.reader_cases.programs import FUNCTIONS, TEMPLATES, cases, is_right


def test_there_are_500_different_cases_of_every_kind() -> None:
    made = list(cases())
    assert len({case.reply for case in made}) >= 500
    assert {case.kind for case in made} == set(TEMPLATES)


def test_every_program_is_python_and_defines_its_name() -> None:
    for name, code in FUNCTIONS.items():
        assert name in {getattr(node, "name", "") for node in ast.parse(code).body}


def test_blank_lines_do_not_count() -> None:
    assert is_right("x = 1\n\ny = 2  \n", "x = 1\ny = 2") and not is_right("x = 1\n", "x = 2\n")
