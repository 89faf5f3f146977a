"""Numbers with a known number of digits in an answer, such as a pass number that was hidden in a text.

A number may be written as a reply writes it: 7412096, 7,412,096, 7412 096, full-width digits, 七四一二〇九六. A longer
number that contains it is another number.
"""

import re

from qianwen.chat.answers import CORRECTION, FULL_WIDTH, STATEMENT

CHINESE_DIGITS = str.maketrans("〇零一二三四五六七八九", "00123456789")
REJECTED = r"(?:\bnot\b|\brather than\b|\binstead of\b|\bunlike\b|n't\b|不是|而非|并非|不同于)(?:\s+(?:be|the|is))*"


def numbers(reply: str, num_digits: int) -> list[str]:
    """The numbers of `num_digits` digits in `reply`, in their order, as plain digits."""
    return [re.sub(r"\D", "", match) for match in _number(num_digits).findall(_plain(reply, num_digits))]


def stated_number(reply: str, num_digits: int) -> str:
    """The number that `reply` gives as its answer; empty if it gives none, or several.

    A rejected number ("not 7412096") does not count. Of several the one after "the answer is" counts, or the one after
    a correction ("wait, …").
    """
    number = _number(num_digits)
    text = _plain(reply, num_digits)
    text = re.sub(rf"{REJECTED}[\s*:：\"'“]*{number.pattern}", " ", text, flags=re.I)
    for clear in (text, _after_last(CORRECTION, text), _after_last(STATEMENT, text)):
        different = {re.sub(r"\D", "", match) for match in number.findall(clear)}
        if len(different) == 1:
            return different.pop()
    return ""


def _number(num_digits: int) -> re.Pattern[str]:
    """In one piece, in groups of three from the right, or digit by digit."""
    first, groups = (num_digits - 1) % 3 + 1, (num_digits - 1) // 3
    in_groups = rf"\d{{{first}}}(?:[,，'_ \u00a0\u2009\u202f\-]\d{{3}}){{{groups}}}"
    apart = rf"\d(?:[, \-]\d){{{num_digits - 1}}}"
    return re.compile(rf"(?<!\d)(?<!\d\.)(?:\d{{{num_digits}}}|{in_groups}|{apart})(?!\d)(?![.,]\d{{1,2}}(?!\d))")


def _plain(reply: str, num_digits: int) -> str:
    """`reply` with ASCII digits; runs of Chinese digits too, where they are as long as the number."""
    text = re.sub(r"\{,\}|\\,", ",", reply.translate(FULL_WIDTH))
    digit = "〇零一二三四五六七八九"
    chinese = rf"(?<![{digit}十百千万])[{digit}]{{{num_digits}}}(?![{digit}十百千万])"
    return re.sub(chinese, lambda match: match[0].translate(CHINESE_DIGITS), text)


def _after_last(pattern: re.Pattern[str], text: str) -> str:
    ends = [match.end() for match in pattern.finditer(text)]
    return text[ends[-1] :] if ends else ""
