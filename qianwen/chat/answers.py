r"""Extract the answer from a reply and check whether it is correct. Used by rejection sampling and evaluation.

    final_number   the number that a reply gives as its answer                    GSM8K
    boxed          the content of the last \boxed{…}                              mathematics in LaTeX
    choice         the letter that a reply chooses, or names by an option's text  MMLU, C-Eval

The program in a reply is read by `code_blocks.py`. The rules are those of Qwen's released evaluation scripts: the last
number of a reply, equal within 10⁻⁴; a letter searched with four patterns, from "the answer is B" down to the first
single letter, else the option that the reply almost writes out (`nearest_option.py`). Ours go further where those rules
misread a clear reply:

    numbers   a box, `####` or "the answer is 18" comes before a later number ("… for 3 days"); exponents are skipped;
              full-width digits, `1{,}234`, 3万 and 十八 are numbers
    choices   a letter that the reply rejects ("not A", "B 错误") is not chosen; the article "a" is not a choice

On a reply that ends in its answer both give the same. How often each reader errs on answers made to mislead it is in
`eval/reader_cases/`. A reply without an answer is wrong; nothing here raises an error.
Not here: running programs, and equality of formulas (`eval/tasks/latex_equality.py`).
"""

import math
import re
from collections.abc import Mapping

from qianwen.chat.chinese_numerals import LARGE, last_numeral
from qianwen.chat.nearest_option import nearest_option

NUMBER = re.compile(
    r"(?<![\d^])(?<!\d\.)(?<!\^\{)(?<![A-Za-z_])[-−]?(?:\d+(?:,\d{3})*(?:\.\d+)?|(?<![\w.])\.\d+)[万亿]?"
)
TOLERANCE = 1e-4  # absolute difference below which two numbers are equal
FULL_WIDTH = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF5B), *map(ord, "．－＋＝"))}
)
LATEX_SPACE = re.compile(r"^(?:\\[,;:! ]|\\displaystyle\b|\s)+|(?:\\[,;:!]|\s)+$")
STATEMENT = re.compile(
    r"(?:\banswer(?:\s+(?:to|for|of)\s[^.:\n]{1,80}?)?\W{0,4}"
    r"(?:\s(?:is|was|would be|should be|will be|must be|equals)\b|[:=])"
    r"|答案(?:应该|应当|就|便)?(?:是|为|等于|[:：=])|答[:：])",
    re.I,
)
CORRECTION = re.compile(r"\b(?:wait|actually|correction|mistake|sorry|oops)\b|不对|更正|算错|等等|其实|重新", re.I)
NEGATED_NUMBER = re.compile(
    r"(?:\bnot\b|\brather than\b|\binstead of\b|\bn't\b|不是|而非|并非)\s*[^\d,，;；]{0,12}[\d,.]*\d\s*(?:\w+\s*)?",
    re.I,
)


# ---- numbers -----------------------------------------------------------------------------------------------------


def last_number(text: str) -> str:
    """The last number in `text`, without thousands separators; empty if there is none."""
    numbers = NUMBER.findall(_plain_digits(text))
    return _digits(numbers[-1]) if numbers else ""


def boxed(text: str) -> str:
    r"""The content of the last \boxed{…} that is closed, with the braces inside it; empty if there is none.

    >>> boxed(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    for opening in reversed(list(re.finditer(r"\\(?:fbox|boxed)\s*\{", text))):
        depth = 1
        for token in re.finditer(r"\\.|[{}]", text[opening.end() :], re.S):  # an escaped brace is a character
            depth += {"{": 1, "}": -1}.get(token[0], 0)
            if not depth:
                return LATEX_SPACE.sub("", text[opening.end() : opening.end() + token.start()])
    return ""


def final_number(reply: str) -> str:
    """The number that a reply gives as its answer: in a box, after `####` or "the answer is", else the last one."""
    text = _plain_digits(reply)
    if number := _stated_number(boxed(text)):
        return number
    if "####" in text and (number := _stated_number(text.rpartition("####")[2].strip().partition("\n")[0])):
        return number
    for statement in reversed(list(STATEMENT.finditer(text))):
        sentence, *later = re.split(r"[\n。！？；;]", text[statement.end() :].lstrip(" \n\t*:："), maxsplit=1)
        if CORRECTION.search(text, statement.end()) or (later and "=" in later[0]):
            break  # the reply goes on to another result
        if number := _stated_number(sentence, gap=16):
            return number
    return last_number(NEGATED_NUMBER.sub(" ", text)) or last_number(text)


def reference_number(solution: str) -> str:
    """The answer of a worked solution: the number after `####` in GSM8K's format, else `final_number`."""
    return last_number(solution.rpartition("####")[2]) if "####" in solution else final_number(solution)


def is_same_number(left: str, right: str) -> bool:
    """Whether both are numbers, and equal within TOLERANCE."""
    try:
        return math.isclose(float(left), float(right), rel_tol=0.0, abs_tol=TOLERANCE)
    except ValueError:
        return False


def is_right_number(reply: str, reference: str) -> bool:
    """Whether `reply` gives the same number as `reference`, which is a worked solution or a number."""
    return is_same_number(final_number(reply), reference_number(reference))


def _stated_number(text: str, gap: int = 80) -> str:
    """The number that a short text states: after its last "=", else in the first clause that has one.

    At most `gap` characters of the clause precede it. A fraction is divided out; without digits, a number in Chinese
    characters counts.
    """
    text = NEGATED_NUMBER.sub(" ", text)
    text = re.sub(r"\\[dt]?frac\s*\{(-?[\d.,]+)\}\s*\{([\d.,]+)\}", r"\1/\2", text)
    for clause in re.split(r"[，,](?!\d)|\.(?=\s|$)", re.split(r"[=≈]", text)[-1]):
        if number := NUMBER.search(clause):
            if number.start() > gap:
                return ""
            divisor = re.match(r"\s*/\s*(\d+(?:\.\d+)?)", clause[number.end() :])
            if divisor and float(divisor[1]):
                return f"{float(_digits(number[0])) / float(divisor[1]):.12g}"
            return _digits(number[0])
        if numeral := last_numeral(clause):
            return numeral
    return ""


def _plain_digits(text: str) -> str:
    """`text` with ASCII digits, and thousands separated by commas or by nothing."""
    text = text.translate(FULL_WIDTH)
    text = re.sub(r"(?<=\d)(?:\{,\}|，)(?=\d{3}(?!\d))", ",", text)
    return re.sub(r"(?<=\d)(?:\\[,!;]|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))", "", text)


def _digits(number: str) -> str:
    """A match of NUMBER as Python reads it."""
    plain = number.rstrip("万亿").replace(",", "").replace("−", "-")
    return f"{float(plain) * LARGE[number[-1]]:.15g}" if number[-1] in LARGE else plain


# ---- choices -----------------------------------------------------------------------------------------------------


def choice(reply: str, options: Mapping[str, str], question: str = "") -> str:
    """The letter of `options` (letter → text) that a reply chooses, in English or Chinese; empty if it chooses none.

    A reply may repeat the question or an option's text instead of a letter, so the question's text is read as "the
    answer is" and an option's text as its letter.
    """
    letters = "".join(options)
    reply = reply.translate(FULL_WIDTH)
    if (letter := re.sub(r"\\text\w*|\W", "", boxed(reply))[:1]) in options:
        return letter
    text = _with_letters(reply.replace(question, "答案是") if question else reply, options)
    accepted = _without_rejected(text, letters)
    for pattern in _choice_patterns(letters):
        if matches := list(pattern.finditer(accepted)):
            # a reply that corrects itself means its last statement
            match = matches[-1] if CORRECTION.search(accepted, matches[0].end(), matches[-1].start()) else matches[0]
            return next(group for group in match.groups() if group).upper()
    return nearest_option(reply, options)


def _with_letters(text: str, options: Mapping[str, str]) -> str:
    """`text` with every option's text replaced by its letter, the longest first: a short one may be part of it."""
    for letter, option in sorted(options.items(), key=lambda item: -len(item[1])):
        if len(option) > 1 or not option.isascii():
            begin = r"(?<![A-Za-z0-9])" if option[0].isascii() and option[0].isalnum() else ""
            end = r"(?![A-Za-z0-9]|\.\d)" if option[-1].isascii() and option[-1].isalnum() else ""
            text = re.sub(begin + re.escape(option) + end, f" {letter} ", text, flags=re.I)
    return text


def _without_rejected(text: str, letters: str) -> str:
    """`text` without the letters that it says are wrong."""
    letter = rf"[\s*（(\[\"'“]*(?<![A-Za-z])[{letters}](?![A-Za-z])[)）\]*\"'”]*"
    and_letters = rf"{letter}(?:\s*(?:,|、|，|or|and|nor|和|或|与)+{letter})*"
    before = (
        r"\b(?:not|neither|isn't|aren't|can't be|cannot be|rule out|eliminate|exclude|rather than|instead of|unlike)\b"
        r"|不可能是|不是|而非|并非|不选|排除|不能选"
    )
    after = (
        r"[:：,，]?\s*(?:选项|项)?\s*(?:is|are|was|were)?\s*(?:都|也|均|是)?\s*(?:both\s+|all\s+|also\s+|clearly\s+)?"
        r"(?:not\b|incorrect|wrong|false|isn't|aren't|cannot|can't|错|不对|不正确|不符|不是|有误|不选|排除|不能选)"
    )
    text = re.sub(
        rf"(?:{before})\s*(?:the\s+)?(?:answers?|options?|choices?|选项|答案)?{and_letters}", " ", text, flags=re.I
    )
    return re.sub(rf"(?:options?|choices?|选项)?{and_letters}{after}", " ", text)


def _choice_patterns(letters: str) -> list[re.Pattern[str]]:
    """From the clearest statement of a choice to the least clear; the first pattern that matches decides."""
    upper = rf"(?<![A-Za-z])([{letters}])(?![A-Za-z])"
    # "the answer is a" is a letter; in "the answer is a kind of fish" it is an article
    either = rf"(?<![A-Za-z])([{letters}]|[{letters.lower()}](?!\s+[A-Za-z]))(?![A-Za-z])"
    no_article = upper.replace("([A", "(A(?!\\s+[a-z])|[", 1) if letters.startswith("A") else upper
    verbs = r"(?i:应该|应当|should be|is|are|为|是|选|:|：|,|，|\()"
    nouns = r"(?i:正确的?)?(?i:答案|选项|选择|回答|answer|option|choice)"
    chosen = r"(?:故选|应选|因此选|所以选|我选|选|(?i:\bI(?:'d| would)? (?:choose|pick|select|go with)))"
    opening = r"[\s*（(\[\"'“:：]*"
    return [
        re.compile(rf"(?i:答案|answer)(?:\s*{verbs})+{opening}{either}"),
        re.compile(rf"(?:{nouns}(?:\s*{verbs})*|{chosen}){opening}{either}"),
        re.compile(
            rf"{upper}[\s).）】*:：]*(?i:选项|项)?(?i:是|为|is)?\s*(?i:the\s+)?(?i:正确|符合|对的|correct|right)"
        ),
        re.compile(rf"\n{opening}{upper}[)）\].。*\"'”\s]*$"),
        re.compile(rf"^{opening}(?:{no_article}|([{letters.lower()}])[)）\].])"),
        re.compile(no_article),
        re.compile(rf"[(（]([{letters.lower()}])[)）]"),
    ]
