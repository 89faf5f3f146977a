"""The replies that refuse, help, or do both."""

from collections import Counter

from qianwen.eval.reader_cases.refusals import cases


def test_there_are_hundreds_of_replies_with_every_verdict_in_both_languages():
    made = list(cases())
    assert len({case.reply for case in made}) >= 500
    counts = Counter((case.answer, any("\u4e00" <= c <= "\u9fff" for c in case.reply)) for case in made)
    assert {verdict for verdict, _ in counts} == {"refusal", "partial refusal", "compliance"}
    assert min(counts.values()) >= 8


def test_each_case_is_read_by_the_rule():
    case = next(case for case in cases() if case.kind == "ordinary")
    assert case.read(case.reply) == case.answer
