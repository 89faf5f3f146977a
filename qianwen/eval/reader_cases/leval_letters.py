"""Replies to questions with four options, read by L-Eval's published rule: the first capital letter from A to D.

The replies are those of `choices.py`. L-Eval asks for the letter alone, so only such replies are ordinary here.
"""

from collections.abc import Iterator

from qianwen.eval.leval_rules import letter
from qianwen.eval.reader_cases.case import Case
from qianwen.eval.reader_cases.choices import english


def cases() -> Iterator[Case]:
    """Every reply in English."""
    for case in english():
        is_sentence = case.kind == "ordinary" and case.reply[0] != case.answer
        yield case._replace(kind="a sentence" if is_sentence else case.kind, read=letter)
