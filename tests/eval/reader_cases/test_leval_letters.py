from qianwen.eval.reader_cases.leval_letters import cases


def test_only_a_reply_that_begins_with_its_letter_is_ordinary() -> None:
    made = list(cases())
    assert len(made) >= 500
    assert all(case.reply[0] == case.answer for case in made if case.kind == "ordinary")
    assert any(case.kind == "a sentence" for case in made)
