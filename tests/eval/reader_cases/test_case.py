from qianwen.eval.reader_cases.case import Case


def test_a_case_carries_its_reader() -> None:
    case = Case("ordinary", "It is B.", "B", lambda reply: reply[-2])
    assert case.read(case.reply) == case.answer
