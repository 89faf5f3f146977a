"""Replies with a number of seven digits that was hidden in a text. `{v}` is the answer, `{w}` another such number.

`{s}` has commas, `{b}` blanks, `{h}` hyphens, `{a}` single digits apart, `{f}` full-width and `{c}` Chinese digits;
`{l}` is a longer number that contains the answer, `{k}` a shorter one.
"""

from collections.abc import Iterator
from functools import partial

from qianwen.chat.digit_strings import stated_number
from qianwen.eval.reader_cases.case import Case

DIGITS = 7
VALUES = ("7412096", "1234567", "9000001", "5550123", "3141592", "8675309", "1000000", "2718281", "6022140", "4444444")
TEMPLATES = {
    "ordinary": (
        "{v}", "{v}.", "The pass number of the old mill is {v}.", "It is **{v}**.", "旧磨坊的通行号码是{v}。",
        "号码：{v}",
    ),
    "written in another way": (
        "{s}", "The number is {b}.", "It is {h}.", "{a}", "号码是{f}。", "号码是{c}。", r"\boxed{{{v}}}", "`{v}`",
        "({v})", "#{v}", "No.{v}",
    ),
    "other numbers": (
        "The text has 135 chapters. The pass number is {v}, found in chapter 12.",
        "In 1851 the number was {v}; page 7.",
        "第3段写着通行号码是{v}，共7位。",
        "1. The old mill: {v}",
    ),
    "negation": (
        "The pass number is {v}, not {w}.",
        "It is not {w} but {v}.",
        "号码不是{w}，而是{v}。",
        "The number is {v} rather than {w}.",
    ),
    "corrected": (
        "It is {w}. Wait, that is another place: it is {v}.",
        "号码是{w}。不对，应该是{v}。",
        "The north gate has {w}. The answer is {v}.",
        "北城门是{w}，所以答案是{v}。",
    ),
    "repeated": ("{v}. The pass number of the old mill is {v}.", "The pass number is {v}.\n\n{v}", "{v}，即{s}。"),
    "longer or shorter number": ("{l}", "The pass number is {k}.", "号码是{l}。", "0.{v}"),
    "several numbers": ("{v}, {w}", "{w}\n{v}", "It is {v} or {w}.", "可能是{w}，也可能是{v}。"),
    "no answer": ("The text does not mention it.", "文章中没有提到。", "", "I do not know the number."),
    "cut": ("The pass number of the old mill is", "{k}"),
    "not used for tuning": (
        "According to the text: \"The pass number of the old mill is {v}.\"",
        "Sure! You will need {v} to get in.",
        "As the passage says, {v} opens it; {w} is for the north gate.",
        "The old mill → {v}",
        "应为{v}号。",
        "文中写道：“旧磨坊的通行号码是{v}。”所以是{v}。",
    ),
}  # fmt: skip
WITHOUT = ("longer or shorter number", "several numbers", "no answer", "cut")


def cases() -> Iterator[Case]:
    """Every template with every value."""
    read = partial(stated_number, num_digits=DIGITS)
    for kind, templates in TEMPLATES.items():
        for template in templates:
            for value, wrong in zip(VALUES, (*VALUES[1:], VALUES[0]), strict=True):
                yield Case(kind, template.format(**_forms(value, wrong)), "" if kind in WITHOUT else value, read)


def _forms(value: str, wrong: str) -> dict[str, str]:
    groups = (value[:1], value[1:4], value[4:])
    return {
        "v": value, "w": wrong, "s": ",".join(groups), "b": " ".join(groups), "h": "-".join(groups),
        "a": " ".join(value),
        "f": value.translate({ord("0") + i: chr(0xFF10 + i) for i in range(10)}),
        "c": "".join("零一二三四五六七八九"[int(digit)] for digit in value),
        "l": f"9{value}1", "k": value[:-1],
    }  # fmt: skip
