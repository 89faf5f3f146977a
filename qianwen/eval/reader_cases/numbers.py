"""Replies to word problems. `{v}` is the answer; other numbers are there to mislead.

Kinds that no rule of this reader can get right are here too: a number in English words, a power of ten, thousands
separated by an ordinary space, a reply that was cut before its answer or has none.
"""

from collections.abc import Iterator

from qianwen.chat.answers import final_number, is_same_number
from qianwen.eval.reader_cases.case import Case

VALUES = (7, 12, 18, 36, 64, 75, 96, 120, 345, 1234, 20500, 1250000)
NUMERALS = ("七", "十二", "十八", "三十六", "六十四", "七十五", "九十六", "一百二十", "三百四十五", "一千二百三十四",
            "两万零五百", "一百二十五万")  # fmt: skip
WORDS = ("seven", "twelve", "eighteen", "thirty-six", "sixty-four", "seventy-five", "ninety-six",
         "one hundred twenty", "three hundred forty-five", "one thousand two hundred thirty-four",
         "twenty thousand five hundred", "one million two hundred fifty thousand")  # fmt: skip

# {v} plain, {s} with commas, {x} in LaTeX, {w} full width, {n} in Chinese characters, {e} in English words
TEMPLATES = {
    "ordinary": ("6 + 5 makes the rest, so she has {v}.", "Each box has 4, hence {s} in all.", "#### {v}"),
    "a later number": (
        "The answer is {v} dollars for 3 days.",
        "So the answer is {v}. This took 2 steps.",
        "The answer to the question is {v} apples, shared by 4 children.",
        "Answer: {v} (see step 2)",
        "答案是{v}元，一共用了3天。",
        "答：{v}个，分给了4个人。",
    ),
    "negation": (
        "The answer is {v}, not 31.",
        "The answer is not 31 but {v}.",
        "It is not 31, it is {v}.",
        "The answer should be {v} rather than 31.",
        "答案不是31，而是{v}。",
        "答案是{v}，而不是31。",
    ),
    "units": (
        "The area is {v} m^2.",
        "It weighs {v} kg in room B2.",
        "The volume is {v} cm^{{3}}.",
        "共{v}平方米（m^2）。",
    ),
    "separators": (
        "It costs ${s}.",
        "The total is {s} dollars.",
        "总共{s}元。",
        "The answer is {s}, paid to 5 people.",
    ),
    "LaTeX": (
        r"Thus $5 \times 3 + {v} - 15 = \boxed{{{v}}}$ after 2 steps.",
        r"\[ \boxed{{{v} \text{{ dollars}}}} \] for 8 hours",
        r"Hence \(x = {x}\).",
        r"$$\boxed{{x = {x}}}$$",
        r"\boxed{{{v}\ \text{{m}}^2}}",
    ),
    "markdown": (
        "**Answer:** {v}\n\n1. Add.\n2. Divide.",
        "## Answer\n**{v}**",
        "The answer is **{v}** (*in 2 parts*).",
    ),
    "equations": (
        "The answer is 2 + 5 - 7 + {v} = {v}.",
        "9 * 2 - 18 + {v} = {v}",
        "Answer = 3 * 0 + {v} = {v} dollars",
    ),
    "corrected": (
        "The answer is 31. Wait, I forgot the tax. The answer is {v}.",
        "The answer is 31. Actually, that is a mistake: in fact it is {v}.",
        "答案是31。不对，应该再加税，答案是{v}。",
    ),
    "full-width digits": ("共{w}元。", "答案是{w}个，共３天。"),
    "Chinese numerals": ("答案是{n}个。", "答：一共{n}元，用了3天。", "所以答案为{n}。"),
    "program in the reply": (
        "The answer is {v}.\n```python\nprint(2 * 9)  # 18.5\n```\n",
        "#### {v}\n```\nx = 31\n```",
    ),
    "question repeated": ("The answer is {v}. You asked: how much do 9 pens cost at 3 dollars each?",),
    "sign and decimals": ("The answer is {v}.00 dollars for 3 people.", "The result is exactly {v}.0", "结果是{v}.0。"),
    "not used for tuning": (
        "Therefore she has {v} left, which lasts 5 days.",
        "In total: {v} (rounded from 31.7)",
        "So, {v} it is; 31 would be too many.",
        "Final result → {v}\n\nNote: step 3 uses the price of 2 pens.",
        "The solution to this problem is {v}, since 9 - 3 = 6.",
        "She needs {v} more. Hope this helps! 1 more thing: check the units.",
        "最终结果为{v}，比31少。",
        "因此他还剩{v}元，够用5天。",
        "The answer comes out as {s} after 4 rounds.",
    ),
    "English words": ("The answer is {e}.", "She pays {e} dollars."),
    "power of ten": (r"The answer is {v} \times 10^0.",),
    "space for thousands": ("The total is {space}.",),
    "cut": ("First, 31 + 5 = 36. Then we add", "He has 3 boxes with 31 each, so"),
    "no answer": ("I need the price of the 31 pens to solve this.", "题目没有给出31支笔的价格，无法计算。"),
}


def cases() -> Iterator[Case]:
    """Every template with every value."""
    for kind, templates in TEMPLATES.items():
        for template in templates:
            for value, numeral, word in zip(VALUES, NUMERALS, WORDS, strict=True):
                forms = {"v": value, "s": f"{value:,}", "x": f"{value:,}".replace(",", "{,}"), "n": numeral, "e": word}
                forms |= {"w": _full_width(value), "space": f"{value:,}".replace(",", " ")}
                answer = "" if kind in ("cut", "no answer") else str(value)
                yield Case(kind, template.format(**forms), answer, final_number)


def is_right(read: str, answer: str) -> bool:
    """Numbers may be written in several ways."""
    return is_same_number(read, answer) if answer else not read


def _full_width(value: int) -> str:
    return str(value).translate({ord("0") + i: chr(0xFF10 + i) for i in range(10)})
